package e2e

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	cri "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/mascri/mascri/internal/engine/enginetest"
)

// An image's links may lead anywhere: as a sub path of an image that is mounted, they never
// lead to the node's files.
func TestLinksOutOfAMountedImage(t *testing.T) {
	b := newBench(t, newNode(t, enginetest.Engine28, userConf()))
	outside := shortDir(t)
	if err := os.WriteFile(filepath.Join(outside, "file"), []byte("the node's\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	image := shortDir(t)
	if err := os.MkdirAll(filepath.Join(image, "sub/deep"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(image, "sub/file"), []byte("in the image\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	up := strings.Repeat("../", 40)
	links := map[string]string{
		"absolute": outside, "relative": up + outside, "first": "second", "second": outside, "file": outside + "/file",
		"root": "/", "process": "/proc/self/root" + outside, "sub/deep/up": up + outside, "inside": "sub", "loop": "loop",
	}
	for name, to := range links {
		if err := os.Symlink(to, filepath.Join(image, name)); err != nil {
			t.Fatal(err)
		}
	}
	archive := filepath.Join(shortDir(t), "hostile.tar")
	run(t, "tar", "-C", image, "-cf", archive, ".")
	b.docker(t, "import", archive, "hostile:1")
	// seen is what a container sees below a sub path, or why it does not start.
	seen := func(sub string) string {
		t.Helper()
		req := b.request(strings.ReplaceAll(sub, "/", "-"), "cat /mnt/file /mnt 2>/dev/null; true")
		req.Config.Mounts = append(req.Config.Mounts, &cri.Mount{Image: &cri.ImageSpec{Image: "hostile:1"}, ContainerPath: "/mnt", ImageSubPath: sub})
		id := b.createContainer(t, req)
		defer b.removeContainer(t, id)
		if _, err := b.cri.StartContainer(t.Context(), &cri.StartContainerRequest{ContainerId: id}); err != nil {
			return "refused: " + err.Error()
		}
		return b.look(t, id).output(t)
	}
	for _, sub := range []string{"sub", "inside"} {
		if got := seen(sub); !strings.Contains(got, "in the image") {
			t.Errorf("%s: %s", sub, got)
		}
	}
	for _, sub := range []string{"absolute", "relative", "first", "file", "process", "sub/deep/up", "root" + outside, "absolute/file", "loop"} {
		if got := seen(sub); !strings.HasPrefix(got, "refused: ") || strings.Contains(got, "the node's") {
			t.Errorf("%s: %s", sub, got)
		}
	}
	if got := seen("root"); strings.Contains(got, "the node's") {
		t.Errorf("root: %s", got)
	}
	b.removePod(t, b.pod.id)
}
