package registry

import (
	"archive/tar"
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"runtime"
	"slices"
	"testing"
)

// The media types of what makes up an image, in Docker's spelling, which every engine
// knows.
const (
	manifestType = "application/vnd.docker.distribution.manifest.v2+json"
	configType   = "application/vnd.docker.container.image.v1+json"
	layerType    = "application/vnd.docker.image.rootfs.diff.tar"
)

// Image is what an image is composed of, on a root file system with the static busybox
// as /bin/busybox, /bin/sh and some more.
type Image struct {
	User       string
	Entrypoint []string
	Cmd        []string
	Env        []string
	// Layer is a tar of a root file system in place of that one and Files, if set.
	Layer []byte
	// Files are added, by path without a leading slash; two images with other files have
	// other ids.
	Files map[string]string
}

// Push makes image available as name:tag, and returns its manifest's digest (sha256:...).
func (r *Registry) Push(t testing.TB, name, tag string, image Image) (digest string) {
	t.Helper()
	layer := image.Layer
	if layer == nil {
		layer = image.layer(t)
	}
	config := marshal(t, map[string]any{
		"architecture": runtime.GOARCH, "os": "linux", "created": "2020-01-02T03:04:05Z",
		"config": map[string]any{"User": image.User, "Entrypoint": image.Entrypoint, "Cmd": image.Cmd, "Env": image.Env},
		"rootfs": map[string]any{"type": "layers", "diff_ids": []string{sum(layer)}},
	})
	manifest := marshal(t, map[string]any{
		"schemaVersion": 2, "mediaType": manifestType,
		"config": descriptor(configType, config),
		"layers": []any{descriptor(layerType, layer)},
	})
	for _, blob := range [][]byte{layer, config} {
		r.put(t, "POST", "/v2/"+name+"/blobs/uploads/?digest="+sum(blob), "application/octet-stream", blob)
	}
	r.put(t, "PUT", "/v2/"+name+"/manifests/"+tag, manifestType, manifest)
	return sum(manifest)
}

// Ref is a reference to an image of the registry, by its tag.
func (r *Registry) Ref(name, tag string) string { return r.Host + "/" + name + ":" + tag }

func (image Image) layer(t testing.TB) []byte {
	t.Helper()
	busybox, err := os.ReadFile("/bin/busybox")
	if err != nil {
		t.Fatalf("%v: install busybox-static", err)
	}
	var out bytes.Buffer
	w := tar.NewWriter(&out)
	add := func(header tar.Header, text []byte) {
		t.Helper()
		header.Size = int64(len(text))
		if err := w.WriteHeader(&header); err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write(text); err != nil {
			t.Fatal(err)
		}
	}
	add(tar.Header{Name: "bin/busybox", Mode: 0o755, Typeflag: tar.TypeReg}, busybox)
	for _, applet := range []string{"sh", "cat", "echo", "id", "ls", "sleep", "true", "false"} {
		add(tar.Header{Name: "bin/" + applet, Linkname: "busybox", Typeflag: tar.TypeSymlink}, nil)
	}
	for _, name := range slices.Sorted(maps.Keys(image.Files)) {
		add(tar.Header{Name: name, Mode: 0o644, Typeflag: tar.TypeReg}, []byte(image.Files[name]))
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

func descriptor(mediaType string, text []byte) map[string]any {
	return map[string]any{"mediaType": mediaType, "size": len(text), "digest": sum(text)}
}

func sum(text []byte) string { return fmt.Sprintf("sha256:%x", sha256.Sum256(text)) }

func marshal(t testing.TB, value any) []byte {
	t.Helper()
	text, err := json.Marshal(value)
	if err != nil {
		t.Fatal(err)
	}
	return text
}
