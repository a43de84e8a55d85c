package kubelet

import (
	"context"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// What the documents tell people to write into a KubeletConfiguration has no field that this
// kubelet does not know. It says so, and goes on without such.
func TestDocumentedConfigurationIsTheKubelets(t *testing.T) {
	const head = "apiVersion: kubelet.config.k8s.io/v1beta1\nkind: KubeletConfiguration\n"
	for _, name := range []string{"docs/kubelet.md", "examples/kubeadm/init.yaml"} {
		_, config, ok := strings.Cut(read(t, repo(t, name)), head)
		if !ok {
			t.Errorf("%s has no KubeletConfiguration", name)
			continue
		}
		config, _, _ = strings.Cut(config, "\n```")
		file := filepath.Join(t.TempDir(), "config.yaml")
		write(t, file, head+config)
		// It ends by itself, as it is given no cluster.
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		out, _ := exec.CommandContext(ctx, repo(t, "bin/kubelet"), "--config", file).CombinedOutput()
		if ctx.Err() != nil || !strings.Contains(string(out), "Effective KubeletConfiguration") || strings.Contains(string(out), "strict decoding") {
			t.Errorf("%s: the kubelet says: %.3000s", name, out)
		}
	}
}
