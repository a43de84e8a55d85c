package enginetest

import (
	"archive/tar"
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"testing"
)

const (
	// ImageRef names the image in Archive.
	ImageRef = "localhost/mascri-test/pause:1"
	// UserImageRef names one that is like it, but for its user, app:staff.
	UserImageRef = "localhost/mascri-test/user:1"
	userOfImage  = "app:staff"
	// programPath is where testdata/pause is in an image.
	programPath = "/pause"
	// The exit codes of testdata/pause.
	codeTerminated, codeUser = 3, 4
)

// Passwd and Group are the accounts in both images. /etc/group is a symbolic link.
const (
	Passwd = "root:x:0:0::/:/pause\napp:x:1234:1234::/:/pause\n"
	Group  = "root:x:0:\nwheel:x:10:other,app\nstaff:x:50:app\napp:x:1234:\n"
)

// Archive builds the image of testdata/pause and returns it as docker save would write
// it.
func Archive(t testing.TB) func() (io.ReadCloser, error) {
	t.Helper()
	_, source, _, _ := runtime.Caller(0)
	binary := filepath.Join(t.TempDir(), "pause")
	build := exec.Command("go", "build", "-trimpath", "-ldflags=-s -w", "-o", binary, ".")
	build.Dir = filepath.Join(filepath.Dir(source), "testdata", "pause")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("build pause: %v\n%s", err, out)
	}
	text, err := os.ReadFile(binary)
	if err != nil {
		t.Fatal(err)
	}
	archive, err := imageArchive(text, map[string]string{ImageRef: "", UserImageRef: userOfImage})
	if err != nil {
		t.Fatal(err)
	}
	return func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(archive)), nil }
}

// imageArchive holds images of one layer alike, whose users are given by their references.
func imageArchive(binary []byte, users map[string]string) ([]byte, error) {
	layer, err := tarOf(file{programPath[1:], 0o755, binary}, file{"etc/passwd", 0o644, []byte(Passwd)},
		file{"etc/group", link, []byte("../lib/group")}, file{"lib/group", 0o644, []byte(Group)})
	if err != nil {
		return nil, err
	}
	files := []file{{"layer.tar", 0o644, layer}}
	var manifests []map[string]any
	for i, ref := range slices.Sorted(maps.Keys(users)) {
		config, err := json.Marshal(map[string]any{
			"architecture": runtime.GOARCH, "os": "linux",
			"config": map[string]any{"Entrypoint": []string{programPath}, "User": users[ref]},
			"rootfs": map[string]any{"type": "layers", "diff_ids": []string{"sha256:" + digest(layer)}},
		})
		if err != nil {
			return nil, err
		}
		name := fmt.Sprint("config", i, ".json")
		files = append(files, file{name, 0o644, config})
		manifests = append(manifests, map[string]any{"Config": name, "RepoTags": []string{ref}, "Layers": []string{"layer.tar"}})
	}
	manifest, err := json.Marshal(manifests)
	if err != nil {
		return nil, err
	}
	return tarOf(append(files, file{"manifest.json", 0o644, manifest})...)
}

type file struct {
	name string
	mode int64 // link for a symbolic link
	text []byte
}

// link is no mode of a file: the file's text is where it leads.
const link = -1

func tarOf(files ...file) ([]byte, error) {
	var out bytes.Buffer
	w := tar.NewWriter(&out)
	for _, f := range files {
		header := &tar.Header{Name: f.name, Mode: f.mode, Size: int64(len(f.text)), Typeflag: tar.TypeReg}
		if f.mode == link {
			header = &tar.Header{Name: f.name, Mode: 0o777, Linkname: string(f.text), Typeflag: tar.TypeSymlink}
			f.text = nil
		}
		if err := w.WriteHeader(header); err != nil {
			return nil, fmt.Errorf("write %s: %w", f.name, err)
		}
		if _, err := w.Write(f.text); err != nil {
			return nil, fmt.Errorf("write %s: %w", f.name, err)
		}
	}
	err := w.Close()
	return out.Bytes(), err
}

func digest(text []byte) string {
	sum := sha256.Sum256(text)
	return hex.EncodeToString(sum[:])
}
