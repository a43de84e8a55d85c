package main

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
)

// place is where the nodes are: a directory on disk, as an engine's state is in
// earnest, and a cgroup.
type place struct {
	repo   string
	dir    string // short, as the paths of sockets must be
	cgroup string // below it are all containers and daemons
	shell  string // the archive of shellImage
	nodes  []*node
}

// newPlace makes one for the repository that is the working directory.
func newPlace() (*place, error) {
	if os.Geteuid() != 0 {
		return nil, errors.New("this needs root: the engines do")
	}
	repo, err := filepath.Abs(".")
	if err != nil {
		return nil, err
	}
	dir, err := os.MkdirTemp("/var/tmp", "bench")
	if err != nil {
		return nil, err
	}
	p := &place{repo: repo, dir: dir, cgroup: "/mascri-bench-" + strconv.Itoa(os.Getpid()), shell: filepath.Join(dir, "shell.tar")}
	if err := writeShellImage(p.shell); err != nil {
		p.clear()
		return nil, err
	}
	return p, nil
}

// clear ends all nodes and leaves nothing.
func (p *place) clear() {
	for _, n := range p.nodes {
		if n.pid != 0 {
			_ = syscall.Kill(n.pid, syscall.SIGKILL) // and with it all in the pid namespace
		} else {
			_ = n.holder.Process.Kill()
		}
		_ = n.holder.Wait() // killed
	}
	for _, pattern := range []string{"/sys/fs/cgroup" + p.cgroup, "/sys/fs/cgroup/*" + p.cgroup} {
		roots, _ := filepath.Glob(pattern) // the pattern is valid
		for _, root := range roots {
			removeCgroup(root)
		}
	}
	if err := os.RemoveAll(p.dir); err != nil {
		fmt.Fprintln(os.Stderr, "bench: clean up:", err)
	}
}

// removeCgroup removes bottom up; the files in there go with their directory.
func removeCgroup(dir string) {
	entries, _ := os.ReadDir(dir)
	for _, entry := range entries {
		if entry.IsDir() {
			removeCgroup(filepath.Join(dir, entry.Name()))
		}
	}
	_ = os.Remove(dir)
}

// node is a machine of its own to what runs in it, as far as namespaces go.
type node struct {
	dir    string // for state, logs and sockets; the same path inside and outside
	holder *exec.Cmd
	pid    int    // of the node's first process, as seen from here
	cgroup string // directory of the cgroup that the daemons and their shims are in

	runtime string // path of the OCI runtime
}

// node makes a node. What runs in it ends with this process, however that ends.
func (p *place) node(name string) (*node, error) {
	n := &node{dir: filepath.Join(p.dir, name), cgroup: filepath.Join(accounts(), p.cgroup, "daemons", name), runtime: runc}
	if err := errors.Join(os.Mkdir(n.dir, 0o755), os.MkdirAll(n.cgroup, 0o755)); err != nil {
		return nil, err
	}
	n.holder = exec.Command(filepath.Join(p.repo, "test/private.sh"), "sh", "-c", "echo ready; exec sleep infinity")
	n.holder.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL, Setpgid: true}
	log, err := os.Create(n.file("node.log"))
	if err != nil {
		return nil, err
	}
	defer log.Close()
	n.holder.Stderr = log
	ready, err := n.holder.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := n.holder.Start(); err != nil {
		return nil, err
	}
	p.nodes = append(p.nodes, n)
	if _, err := ready.Read(make([]byte, 1)); err != nil {
		return nil, fmt.Errorf("node %s did not come up: %w\n%s", name, err, tail(log.Name()))
	}
	if n.pid, err = onlyChild(n.holder.Process.Pid); err != nil {
		return nil, fmt.Errorf("node %s: %w", name, err)
	}
	// The plugins' state is on disk, too.
	cni, err := n.mkdir("cni")
	if err != nil {
		return nil, err
	}
	return n, n.run("mount", "--bind", cni, "/var/lib/cni")
}

func onlyChild(pid int) (int, error) {
	children, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%d/children", pid, pid))
	if err != nil {
		return 0, err
	}
	return strconv.Atoi(strings.TrimSpace(string(children)))
}

func (n *node) file(name string) string { return filepath.Join(n.dir, name) }

func (n *node) mkdir(name string) (string, error) {
	return n.file(name), os.MkdirAll(n.file(name), 0o755)
}

// command is one that runs in the node.
func (n *node) command(name string, args ...string) *exec.Cmd {
	return exec.Command("nsenter", append([]string{"-t", strconv.Itoa(n.pid), "-m", "-n", "-p", "--", name}, args...)...)
}

// run runs a command in the node to its end.
func (n *node) run(name string, args ...string) error {
	if out, err := n.command(name, args...).CombinedOutput(); err != nil {
		return fmt.Errorf("%s %s: %w\n%s", name, strings.Join(args, " "), err, out)
	}
	return nil
}

// tail returns a log's last lines.
func tail(path string) []byte {
	log, err := os.ReadFile(path)
	if err != nil {
		return []byte(err.Error())
	}
	lines := bytes.Split(log, []byte("\n"))
	return bytes.Join(lines[max(0, len(lines)-20):], []byte("\n"))
}
