package pod

import (
	"fmt"
	"strings"

	cri "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// SandboxName is the engine's name for the sandbox of m. The engine keeps names
// unique, so that two requests for the same attempt of a pod can't both succeed,
// whatever crashes in between.
//
// The form is the one dockershim gave and tools know:
// k8s_POD_<name>_<namespace>_<uid>_<attempt>.
func SandboxName(m *cri.PodSandboxMetadata) string {
	return fmt.Sprintf("k8s_POD_%s_%s_%s_%d", escape(m.GetName()), escape(m.GetNamespace()), escape(m.GetUid()), m.GetAttempt())
}

// ContainerName is the engine's name for the container m of pod p, in the form that
// dockershim gave as well: k8s_<container>_<pod>_<namespace>_<uid>_<attempt>, where the
// attempt is the container's own. A container is never named POD, as Kubernetes allows
// no upper case.
func ContainerName(m *cri.ContainerMetadata, p *cri.PodSandboxMetadata) string {
	name := escape(m.GetName())
	if name == "POD" {
		name = "..50OD"
	}
	return fmt.Sprintf("k8s_%s_%s_%s_%s_%d", name, escape(p.GetName()), escape(p.GetNamespace()), escape(p.GetUid()), m.GetAttempt())
}

// escape makes s fit for one part of an engine name, which allows [a-zA-Z0-9_.-]:
// any other byte, and "_" as it separates the parts, becomes ".." and two hex
// digits. A Kubernetes name has no two dots in a row, so it stays as it is; "..",
// where it comes, is escaped as well, so that different parts never become equal.
func escape(s string) string {
	var b strings.Builder
	for i := range len(s) {
		c := s[i]
		plain := c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c == '-' ||
			c == '.' && (i+1 == len(s) || s[i+1] != '.') && (i == 0 || s[i-1] != '.')
		if plain {
			b.WriteByte(c)
			continue
		}
		fmt.Fprintf(&b, "..%02x", c)
	}
	return b.String()
}
