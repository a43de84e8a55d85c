package sandboximage

import (
	"archive/tar"
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"testing"
	"testing/fstest"
	"testing/synctest"

	"github.com/containerd/errdefs"
	"github.com/google/go-cmp/cmp"
)

func rootfs() fstest.MapFS {
	return fstest.MapFS{"pause": {Data: []byte("the pause")}, "ip": {Data: []byte("the ip")}}
}

// entries reads a tar: the content of files, the mode and owner of all.
func entries(t *testing.T, r io.Reader) (content map[string]string, headers map[string]*tar.Header) {
	t.Helper()
	content, headers = map[string]string{}, map[string]*tar.Header{}
	for tr := tar.NewReader(r); ; {
		header, err := tr.Next()
		if errors.Is(err, io.EOF) {
			return content, headers
		}
		if err != nil {
			t.Fatal(err)
		}
		data, err := io.ReadAll(tr)
		if err != nil {
			t.Fatal(err)
		}
		content[header.Name], headers[header.Name] = string(data), header
	}
}

func whole(t *testing.T, i image) []byte {
	t.Helper()
	archive := i.archive()
	defer archive.Close()
	data, err := io.ReadAll(archive)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func TestArchive(t *testing.T) {
	built, err := build(rootfs(), "arm64")
	if err != nil {
		t.Fatal(err)
	}
	outer, _ := entries(t, built.archive())
	var manifest []struct {
		Config   string
		RepoTags []string
		Layers   []string
	}
	if err := json.Unmarshal([]byte(outer["manifest.json"]), &manifest); err != nil {
		t.Fatal(err)
	}
	if len(manifest) != 1 || len(manifest[0].Layers) != 1 || len(manifest[0].RepoTags) != 1 || manifest[0].RepoTags[0] != built.ref {
		t.Fatalf("manifest %+v, want one image of one layer called %s", manifest, built.ref)
	}

	config := []byte(outer[manifest[0].Config])
	if want := digest(config) + ".json"; manifest[0].Config != want {
		t.Errorf("config %s, want it named by its digest, %s", manifest[0].Config, want)
	}
	layer := []byte(outer[manifest[0].Layers[0]])
	var got imageConfig
	if err := json.Unmarshal(config, &got); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(newImageConfig("arm64", digest(layer)), got); diff != "" {
		t.Errorf("config (-want +got):\n%s", diff)
	}

	inner, headers := entries(t, bytes.NewReader(layer))
	want := map[string]string{"bin/": "", "bin/ip": "the ip", "dev/": "", "etc/": "", "pause": "the pause", "proc/": "", "sys/": ""}
	if diff := cmp.Diff(want, inner); diff != "" {
		t.Errorf("layer (-want +got):\n%s", diff)
	}
	for name, header := range headers {
		if header.Mode != 0o755 || header.Uid != 0 || header.Gid != 0 || !header.ModTime.Equal(headers["pause"].ModTime) {
			t.Errorf("%s: mode %o, owner %d:%d, time %s; want 755, 0:0 and one time for all", name, header.Mode, header.Uid, header.Gid, header.ModTime)
		}
	}
}

func TestRefFollowsContent(t *testing.T) {
	first, err := build(rootfs(), "amd64")
	if err != nil {
		t.Fatal(err)
	}
	again, err := build(rootfs(), "amd64")
	if err != nil {
		t.Fatal(err)
	}
	if first.ref != again.ref || !bytes.Equal(whole(t, first), whole(t, again)) {
		t.Errorf("two images of the same files differ: %s and %s", first.ref, again.ref)
	}
	changed := rootfs()
	changed["ip"].Data = []byte("another ip")
	other, err := build(changed, "amd64")
	if err != nil {
		t.Fatal(err)
	}
	if first.ref == other.ref {
		t.Errorf("other files, same image: %s", other.ref)
	}
}

// A file that is not as long as it was makes no archive that could be taken for one.
func TestArchiveOfAFileThatChanged(t *testing.T) {
	files := rootfs()
	built, err := build(files, "amd64")
	if err != nil {
		t.Fatal(err)
	}
	files["ip"].Data = []byte("longer than the ip")
	if _, err := io.ReadAll(built.archive()); err == nil {
		t.Error("no error")
	}
}

// Whoever closes it in the middle leaves nothing behind.
func TestArchiveIsClosedBeforeItsEnd(t *testing.T) {
	built, err := build(rootfs(), "amd64")
	if err != nil {
		t.Fatal(err)
	}
	synctest.Test(t, func(t *testing.T) { // which fails where a goroutine is left
		archive := built.archive()
		if _, err := archive.Read(make([]byte, 10)); err != nil {
			t.Fatal(err)
		}
		if err := archive.Close(); err != nil {
			t.Fatal(err)
		}
	})
}

func TestBuiltWithoutFiles(t *testing.T) {
	for _, missing := range []string{"pause", "ip"} {
		files := rootfs()
		delete(files, missing)
		if _, err := build(files, "amd64"); !errdefs.IsUnavailable(err) {
			t.Errorf("without %s: error %v, want ErrUnavailable", missing, err)
		}
	}
}
