package sandboximage

import (
	"archive/tar"
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"runtime"

	"github.com/containerd/errdefs"
)

// repository is under "localhost", a name that no registry can have: an engine
// that was asked to pull it would fail instead of fetching something foreign.
const repository = "localhost/mascri/sandbox"

// Ref is what the image is called in the engine. Its tag is derived from the
// content: a build with other content brings its own image. Where this binary was
// built without the image, no image has that name.
func Ref() string {
	i, err := embedded()
	if err != nil {
		return repository + ":not-built"
	}
	return i.ref
}

// Archive returns the image in the form that "docker load" takes, uncompressed:
// same files, same bytes. It is built at each call, as it is wanted once in an
// engine's life. The error is ErrUnavailable where this binary was built without
// the image.
func Archive() (io.ReadCloser, error) {
	i, err := embedded()
	if err != nil {
		return nil, err
	}
	return io.NopCloser(bytes.NewReader(i.archive)), nil
}

func embedded() (image, error) {
	rootfs, err := fs.Sub(files, path.Join("rootfs", runtime.GOARCH))
	if err != nil {
		return image{}, fmt.Errorf("sandbox image: %w", err)
	}
	return build(rootfs, runtime.GOARCH)
}

// image is an image in the form of docker save.
type image struct {
	ref     string
	archive []byte
}

// file is a regular file in a tar, or a directory where its name ends in "/".
type file struct {
	name string
	data []byte
}

// build makes the image for architecture arch from the files "pause" and "ip".
func build(rootfs fs.FS, arch string) (image, error) {
	pause, errPause := fs.ReadFile(rootfs, "pause")
	ip, errIP := fs.ReadFile(rootfs, "ip")
	if err := errors.Join(errPause, errIP); err != nil {
		return image{}, fmt.Errorf("mascri was built without the sandbox image; build it with make, or set sandbox_image: %w: %w", err, errdefs.ErrUnavailable)
	}
	// The engine mounts over dev, proc and sys and writes hosts, hostname and
	// resolv.conf to etc, also where the root filesystem is read-only.
	layer, err := archive([]file{
		{name: "bin/"}, {name: "bin/ip", data: ip}, {name: "dev/"}, {name: "etc/"},
		{name: "pause", data: pause}, {name: "proc/"}, {name: "sys/"},
	})
	if err != nil {
		return image{}, fmt.Errorf("sandbox image: layer: %w", err)
	}
	config, err := json.Marshal(newImageConfig(arch, digest(layer)))
	if err != nil {
		return image{}, fmt.Errorf("sandbox image: config: %w", err)
	}
	return pack(layer, config)
}

// pack puts layer and config into an archive.
func pack(layer, config []byte) (image, error) {
	id := digest(config) // also the image's id in the classic image store
	i := image{ref: repository + ":" + id[:12]}
	type entry struct {
		Config   string
		RepoTags []string
		Layers   []string
	}
	manifest, err := json.Marshal([]entry{{Config: id + ".json", RepoTags: []string{i.ref}, Layers: []string{"layer.tar"}}})
	if err != nil {
		return image{}, fmt.Errorf("sandbox image: manifest: %w", err)
	}
	i.archive, err = archive([]file{{"manifest.json", manifest}, {id + ".json", config}, {"layer.tar", layer}})
	if err != nil {
		return image{}, fmt.Errorf("sandbox image: archive: %w", err)
	}
	return i, nil
}

// archive returns files as a tar. Owner is root and the time is the epoch: the
// bytes depend on nothing but files.
func archive(files []file) ([]byte, error) {
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, f := range files {
		header := tar.Header{Typeflag: tar.TypeReg, Name: f.name, Mode: 0o755, Size: int64(len(f.data)), Format: tar.FormatUSTAR}
		if f.name[len(f.name)-1] == '/' {
			header.Typeflag = tar.TypeDir
		}
		if err := w.WriteHeader(&header); err != nil {
			return nil, err
		}
		if _, err := w.Write(f.data); err != nil {
			return nil, err
		}
	}
	if err := w.Close(); err != nil {
		return nil, err
	}
	return b.Bytes(), nil
}

func digest(data []byte) string {
	sum := sha256.Sum256(data)
	return hex.EncodeToString(sum[:])
}
