package translate

import (
	"maps"
	"regexp"
	"slices"
	"strings"

	"github.com/moby/moby/api/types/container"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/mascri/mascri/internal/pod"
)

// sysctls passes those that belong to a namespace which is the pod's own. runc would
// refuse the others as well, but only at start and not by the request's field.
func sysctls(spec pod.SandboxSpec, _ Host, _ *container.Config, out *container.HostConfig) error {
	asked := spec.Config.GetLinux().GetSysctls()
	options := spec.Config.GetLinux().GetSecurityContext().GetNamespaceOptions()
	for _, key := range slices.Sorted(maps.Keys(asked)) {
		name := normalizeSysctl(key)
		if err := checkSysctl(key, name, options); err != nil {
			return err
		}
		if out.Sysctls == nil {
			out.Sysctls = make(map[string]string, len(asked))
		}
		if _, twice := out.Sysctls[name]; twice {
			return invalid("linux.sysctls: %q is given twice, with dots and with slashes", name)
		}
		out.Sysctls[name] = asked[key]
	}
	return nil
}

// sysctlName keeps a name below /proc/sys: no element is empty or made of dots.
var sysctlName = regexp.MustCompile(`^[A-Za-z0-9_-]+([./][A-Za-z0-9_-]+)*$`)

// normalizeSysctl writes a name as sysctl(8) understands it with dots as separators:
// where the first separator is a slash, slashes separate and dots are part of a name
// (net/ipv4/conf/eth0.1/forwarding is net.ipv4.conf.eth0/1.forwarding).
func normalizeSysctl(name string) string {
	if i := strings.IndexAny(name, "./"); i < 0 || name[i] == '.' {
		return name
	}
	return strings.NewReplacer("/", ".", ".", "/").Replace(name)
}

func checkSysctl(key, name string, options *cri.NamespaceOption) error {
	if !sysctlName.MatchString(key) {
		return invalid("linux.sysctls: %q is no sysctl name", key)
	}
	switch {
	case strings.HasPrefix(name, "net."):
		if options.GetNetwork() == cri.NamespaceMode_NODE {
			return invalid("linux.sysctls: %q would be set on the node, whose network the pod uses", key)
		}
	case isIPCSysctl(name):
		if options.GetIpc() == cri.NamespaceMode_NODE {
			return invalid("linux.sysctls: %q would be set on the node, whose IPC the pod uses", key)
		}
	case name == "kernel.domainname":
		if options.GetNetwork() == cri.NamespaceMode_NODE {
			return invalid("linux.sysctls: %q would be set on the node, whose hostname the pod uses", key)
		}
	case name == "kernel.hostname":
		return invalid("linux.sysctls: %q: use the field hostname", key)
	default:
		return invalid("linux.sysctls: %q is not namespaced: it can only be set on the node", key)
	}
	return nil
}

// isIPCSysctl knows the sysctls of an IPC namespace, ipc_namespaces(7).
func isIPCSysctl(name string) bool {
	switch name {
	case "kernel.msgmax", "kernel.msgmnb", "kernel.msgmni", "kernel.sem",
		"kernel.shmall", "kernel.shmmax", "kernel.shmmni", "kernel.shm_rmid_forced":
		return true
	}
	return strings.HasPrefix(name, "fs.mqueue.")
}
