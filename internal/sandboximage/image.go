package sandboximage

import (
	"archive/tar"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"hash"
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
// same files, same bytes. It is made while it is read, as it is wanted once in an
// engine's life; whoever does not read to its end must close it. The error is
// ErrUnavailable where this binary was built without the image.
func Archive() (io.ReadCloser, error) {
	i, err := embedded()
	if err != nil {
		return nil, err
	}
	return i.archive(), nil
}

func embedded() (image, error) {
	rootfs, err := fs.Sub(files, path.Join("rootfs", runtime.GOARCH))
	if err != nil {
		return image{}, fmt.Errorf("sandbox image: %w", err)
	}
	return build(rootfs, runtime.GOARCH)
}

// image is an image in the form of docker save. Its files are read when they are
// wanted: they are megabytes.
type image struct {
	ref   string
	files []file // of the archive
}

// file is a regular file in a tar, or a directory where its name ends in "/".
type file struct {
	name  string
	size  int64
	write func(io.Writer) error // nil: it is empty
}

func bytesFile(name string, data []byte) file {
	return file{name, int64(len(data)), func(w io.Writer) error {
		_, err := w.Write(data)
		return err
	}}
}

// rootFile is that of rootfs called from.
func rootFile(name string, rootfs fs.FS, from string) (file, error) {
	about, err := fs.Stat(rootfs, from)
	if err != nil {
		return file{}, err
	}
	return file{name, about.Size(), func(w io.Writer) error {
		f, err := rootfs.Open(from)
		if err != nil {
			return err
		}
		defer f.Close()
		_, err = io.Copy(w, f)
		return err
	}}, nil
}

// build makes the image for architecture arch from the files "pause" and "ip".
func build(rootfs fs.FS, arch string) (image, error) {
	pause, errPause := rootFile("pause", rootfs, "pause")
	ip, errIP := rootFile("bin/ip", rootfs, "ip")
	if err := errors.Join(errPause, errIP); err != nil {
		return image{}, fmt.Errorf("mascri was built without the sandbox image; build it with make, or set sandbox_image: %w: %w", err, errdefs.ErrUnavailable)
	}
	// The engine mounts over dev, proc and sys and writes hosts, hostname and
	// resolv.conf to etc, also where the root filesystem is read-only.
	inLayer := []file{{name: "bin/"}, ip, {name: "dev/"}, {name: "etc/"}, pause, {name: "proc/"}, {name: "sys/"}}
	sum := &digester{hash: sha256.New()}
	if err := archive(sum, inLayer); err != nil {
		return image{}, fmt.Errorf("sandbox image: layer: %w", err)
	}
	config, err := json.Marshal(newImageConfig(arch, sum.String()))
	if err != nil {
		return image{}, fmt.Errorf("sandbox image: config: %w", err)
	}
	return pack(file{"layer.tar", sum.size, func(w io.Writer) error { return archive(w, inLayer) }}, config)
}

// pack makes an image of its layer and config.
func pack(layer file, config []byte) (image, error) {
	id := digest(config) // also the image's id in the classic image store
	ref := repository + ":" + id[:12]
	type entry struct {
		Config   string
		RepoTags []string
		Layers   []string
	}
	manifest, err := json.Marshal([]entry{{Config: id + ".json", RepoTags: []string{ref}, Layers: []string{layer.name}}})
	if err != nil {
		return image{}, fmt.Errorf("sandbox image: manifest: %w", err)
	}
	return image{ref, []file{bytesFile("manifest.json", manifest), bytesFile(id+".json", config), layer}}, nil
}

// archive makes the archive while it is read, until it is closed.
func (i image) archive() io.ReadCloser {
	r, w := io.Pipe()
	go func() { w.CloseWithError(archive(w, i.files)) }()
	return r
}

// archive writes files as a tar. Owner is root and the time is the epoch: the
// bytes depend on nothing but files.
func archive(to io.Writer, files []file) error {
	w := tar.NewWriter(to)
	for _, f := range files {
		header := tar.Header{Typeflag: tar.TypeReg, Name: f.name, Mode: 0o755, Size: f.size, Format: tar.FormatUSTAR}
		if f.name[len(f.name)-1] == '/' {
			header.Typeflag = tar.TypeDir
		}
		if err := w.WriteHeader(&header); err != nil {
			return err
		}
		if f.write == nil {
			continue
		}
		if err := f.write(w); err != nil {
			return err
		}
	}
	return w.Close()
}

func digest(data []byte) string {
	sum := sha256.Sum256(data)
	return hex.EncodeToString(sum[:])
}

// digester is a writer that keeps only the digest and the size.
type digester struct {
	hash hash.Hash
	size int64
}

// Write implements io.Writer.
func (d *digester) Write(p []byte) (int, error) {
	d.size += int64(len(p))
	return d.hash.Write(p)
}

// String is the digest of what was written, as digest returns it.
func (d *digester) String() string { return hex.EncodeToString(d.hash.Sum(nil)) }
