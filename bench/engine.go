package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
)

// Where dockerd, containerd and ctr are: in bin and sbin below. runc is the machine's.
const (
	debian   = "/usr"
	engine28 = "bin/engine28/usr" // in the repository
)

// The OCI runtimes: the machine's, and one of the repository's, which test/fetch-crun.sh brings.
const (
	runc = "/usr/sbin/runc"
	crun = "bin/crun/crun"
)

// useCrun lets a node that has no daemons yet run containers by crun. That refuses cgroup v1 with
// a controller left to cgroup v2, unless it does not see it.
func (n *node) useCrun(repo string) error {
	n.runtime = filepath.Join(repo, crun)
	if _, err := os.Stat(n.runtime); err != nil {
		return fmt.Errorf("%w; run test/fetch-crun.sh bin/crun", err)
	}
	if _, err := os.Stat("/sys/fs/cgroup/unified/cgroup.controllers"); errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return n.run("umount", "/sys/fs/cgroup/unified")
}

// withRuntime is what a title tells of it.
func (n *node) withRuntime() string {
	if n.runtime == runc {
		return ""
	}
	return ", " + filepath.Base(n.runtime)
}

// engine gives a node its own copy of an engine's programs: memory that they share with
// those of another node would be nobody's.
func (n *node) engine(from string) (dir string, err error) {
	for _, name := range []string{"sbin/dockerd", "bin/containerd", "bin/containerd-shim-runc-v2", "bin/ctr", "bin/docker-init", "bin/docker-proxy", "sbin/docker-proxy"} {
		_, err := os.Stat(filepath.Join(from, name))
		if errors.Is(err, fs.ErrNotExist) {
			continue // engines differ
		}
		if err == nil {
			err = n.copy(filepath.Join(from, name), filepath.Join("engine", name))
		}
		if err != nil {
			return "", err
		}
	}
	return n.file("engine"), nil
}

// copy copies a program to a path in the node's directory.
func (n *node) copy(from, to string) error {
	if err := os.MkdirAll(filepath.Dir(n.file(to)), 0o755); err != nil {
		return err
	}
	return exec.Command("cp", "--reflink=auto", from, n.file(to)).Run()
}

// enginePath is the PATH of an engine.
func enginePath(engine string) string {
	return "PATH=" + filepath.Join(engine, "sbin") + ":" + filepath.Join(engine, "bin") + ":/usr/sbin:/usr/bin:/sbin:/bin"
}
