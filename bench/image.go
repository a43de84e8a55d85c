package main

import (
	"archive/tar"
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"runtime"

	"github.com/mascri/mascri/internal/sandboximage"
)

// shellImage is what the workload's containers run: the machine's static busybox.
const shellImage = "localhost/mascri-bench/shell:1"

// writeSandboxImage writes the sandbox image: all contestants use MasCRI's.
func writeSandboxImage(path string) error {
	archive, err := sandboximage.Archive()
	if err != nil {
		return err
	}
	defer archive.Close()
	data, err := io.ReadAll(archive)
	if err != nil {
		return err
	}
	return os.WriteFile(path, data, 0o600)
}

// writeShellImage writes shellImage in the form of docker save.
func writeShellImage(path string) error {
	busybox, err := os.ReadFile("/bin/busybox")
	if err != nil {
		return fmt.Errorf("%w: install busybox-static", err)
	}
	entries := []entry{{name: "bin/busybox", data: busybox}}
	for _, applet := range []string{"sh", "sleep", "true", "yes", "head"} {
		entries = append(entries, entry{name: "bin/" + applet, link: "busybox"})
	}
	layer, err := pack(entries)
	if err != nil {
		return err
	}
	// A milder signal could come before the process is ready for it, and be lost: it is the
	// first one of its pid namespace.
	config, err := json.Marshal(map[string]any{
		"architecture": runtime.GOARCH, "os": "linux", "created": "2020-01-02T03:04:05Z",
		"config": map[string]any{"Env": []string{"PATH=/bin"}, "StopSignal": "SIGKILL"},
		"rootfs": map[string]any{"type": "layers", "diff_ids": []string{fmt.Sprintf("sha256:%x", sha256.Sum256(layer))}},
	})
	if err != nil {
		return err
	}
	name := fmt.Sprintf("%x.json", sha256.Sum256(config))
	manifest, err := json.Marshal([]map[string]any{{"Config": name, "RepoTags": []string{shellImage}, "Layers": []string{"layer.tar"}}})
	if err != nil {
		return err
	}
	archive, err := pack([]entry{{name: "manifest.json", data: manifest}, {name: name, data: config}, {name: "layer.tar", data: layer}})
	if err != nil {
		return err
	}
	return os.WriteFile(path, archive, 0o600)
}

// entry is a file in a tar, or a symbolic link.
type entry struct {
	name, link string
	data       []byte
}

func pack(entries []entry) ([]byte, error) {
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, e := range entries {
		header := tar.Header{Typeflag: tar.TypeReg, Name: e.name, Mode: 0o755, Size: int64(len(e.data)), Format: tar.FormatUSTAR}
		if e.link != "" {
			header.Typeflag, header.Linkname = tar.TypeSymlink, e.link
		}
		if err := w.WriteHeader(&header); err != nil {
			return nil, err
		}
		if _, err := w.Write(e.data); err != nil {
			return nil, err
		}
	}
	if err := w.Close(); err != nil {
		return nil, err
	}
	return b.Bytes(), nil
}
