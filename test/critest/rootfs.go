package critest

import (
	"archive/tar"
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
)

// Programs that specs run and Debian's busybox lacks.
const (
	pgrep = "#!/bin/sh\nexec pidof \"$1\"\n"
	ipcs  = "#!/bin/sh\nexec awk 'NR > 1 { print $2 }' /proc/sysvipc/shm\n"
)

// Accounts of an image, of which specs know some by name.
const (
	passwd = "root:x:0:0:root:/root:/bin/sh\nwww-data:x:33:33:www-data:/var/www:/bin/false\nnobody:x:65534:65534:nobody:/home:/bin/false\n"
	group  = "root:x:0:\nwww-data:x:33:\nnobody:x:65534:\n"
)

// file is one of a root file system.
type file struct {
	path string
	mode int64
	text []byte
}

// rootfs composes root file systems around one busybox.
type rootfs struct {
	busybox, shell []byte
	applets        []string
}

func newRootfs(t testing.TB) rootfs {
	t.Helper()
	const path = "/bin/busybox"
	busybox, err := os.ReadFile(path)
	if err != nil {
		t.Fatalf("%v: install busybox-static", err)
	}
	list, err := exec.Command(path, "--list").Output()
	if err != nil {
		t.Fatal(err)
	}
	return rootfs{busybox: busybox, shell: shell(t, busybox), applets: strings.Fields(string(list))}
}

// shell is a busybox whose sh looks for ls in PATH: else it would run its own, and the
// spec that hides /bin/ls could not find it missing. It is the name in the list of applets
// that is changed, to one that is of the same place in that list's order.
func shell(t testing.TB, busybox []byte) []byte {
	t.Helper()
	ls, lr := []byte("\x00ls\x00"), []byte("\x00lr\x00")
	if n := bytes.Count(busybox, ls); n != 1 {
		t.Fatalf("busybox has the name of ls %d times, want 1: its list of applets looks other than that of Debian 12", n)
	}
	return bytes.Replace(busybox, ls, lr, 1)
}

// base is what every root file system has besides busybox and its applets.
func (r rootfs) base() []file {
	return []file{
		{"bin/sh", 0o755, r.shell},
		{"bin/pgrep", 0o755, []byte(pgrep)},
		{"bin/ipcs", 0o755, []byte(ipcs)},
		{"etc/passwd", 0o644, []byte(passwd)},
		{"etc/group", 0o644, []byte(group)},
	}
}

// layer is a tar of busybox, all its applets and files, which come before those of base.
func (r rootfs) layer(t testing.TB, files ...file) []byte {
	t.Helper()
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
	for _, directory := range []string{"bin", "etc", "root", "usr", "usr/sbin", "var", "var/run"} {
		add(tar.Header{Name: directory + "/", Mode: 0o755, Typeflag: tar.TypeDir}, nil)
	}
	add(tar.Header{Name: "tmp/", Mode: 0o1777, Typeflag: tar.TypeDir}, nil)
	add(tar.Header{Name: "bin/busybox", Mode: 0o755, Typeflag: tar.TypeReg}, r.busybox)
	for _, applet := range r.applets {
		if applet != "busybox" && applet != "sh" {
			// A symbolic link would hide all of busybox with one applet that is hidden.
			add(tar.Header{Name: "bin/" + applet, Linkname: "bin/busybox", Mode: 0o755, Typeflag: tar.TypeLink}, nil)
		}
	}
	replaced := func(f file) bool {
		return slices.ContainsFunc(files, func(by file) bool { return by.path == f.path })
	}
	for _, f := range append(slices.DeleteFunc(r.base(), replaced), files...) {
		add(tar.Header{Name: f.path, Mode: f.mode, Typeflag: tar.TypeReg}, f.text)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

// program builds one of those below this directory.
func program(t testing.TB, name string) []byte {
	t.Helper()
	_, source, _, _ := runtime.Caller(0)
	binary := filepath.Join(t.TempDir(), name)
	build := exec.Command("go", "build", "-trimpath", "-ldflags=-s -w", "-o", binary, "./"+name)
	build.Dir = filepath.Dir(source)
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("build %s: %v\n%s", name, err, out)
	}
	text, err := os.ReadFile(binary)
	if err != nil {
		t.Fatal(err)
	}
	return text
}
