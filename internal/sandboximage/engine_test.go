package sandboximage

import (
	"bytes"
	"os/exec"
	"strings"
	"testing"

	"github.com/mascri/mascri/internal/engine/enginetest"
)

func TestMain(m *testing.M) { enginetest.InNamespaces(m) }

// docker runs the docker command on the engine at host.
func docker(t *testing.T, host string, stdin []byte, args ...string) string {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "docker", append([]string{"--host", host}, args...)...)
	cmd.Stdin = bytes.NewReader(stdin)
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("docker %s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return strings.TrimSpace(string(out))
}

// The image serves every pod, so also one that may do next to nothing.
func TestIPRunsWithoutPrivileges(t *testing.T) {
	built, err := embedded()
	if err != nil {
		t.Skip(err)
	}
	for name, engine := range map[string]struct {
		version enginetest.Version
		flags   []string
	}{
		"engine 20.10":                     {enginetest.Engine20, nil},
		"engine 28":                        {enginetest.Engine28, nil},
		"engine 28/containerd image store": {enginetest.Engine28, []string{"--feature", "containerd-snapshotter=true", "--storage-driver", "overlayfs"}},
	} {
		t.Run(name, func(t *testing.T) {
			host := enginetest.Start(t, engine.version, engine.flags...)
			if got := docker(t, host, whole(t, built), "load"); !strings.Contains(got, built.ref) {
				t.Fatalf("docker load says %q, want it to name %s", got, built.ref)
			}
			id := docker(t, host, nil, "run", "--detach", "--network", "none", "--read-only", "--user", "65535:65535", "--group-add", "1234",
				"--cap-drop", "ALL", "--security-opt", "no-new-privileges", built.ref)
			if got := docker(t, host, nil, "exec", id, "ip", "addr"); !strings.Contains(got, "inet 127.0.0.1/8 ") {
				t.Errorf("ip addr does not show the loopback address:\n%s", got)
			}
		})
	}
}
