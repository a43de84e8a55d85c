package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// place is where the nodes are: a directory on disk, as an engine's state is in
// earnest, and a cgroup.
type place struct {
	repo   string
	dir    string // short, as the paths of sockets must be
	cgroup string // below it are all containers
	nodes  []*node
}

func newPlace(repo string) (*place, error) {
	if os.Geteuid() != 0 {
		return nil, errors.New("this needs root: the engines do")
	}
	dir, err := os.MkdirTemp("/var/tmp", "bench")
	if err != nil {
		return nil, err
	}
	return &place{repo: repo, dir: dir, cgroup: "/mascri-bench-" + strconv.Itoa(os.Getpid())}, nil
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
	pid    int // of the node's first process, as seen from here
}

// node makes a node. What runs in it ends with this process, however that ends.
func (p *place) node(name string) (*node, error) {
	n := &node{dir: filepath.Join(p.dir, name)}
	if err := os.Mkdir(n.dir, 0o755); err != nil {
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

// daemon runs a command in the node for good and returns once its socket takes
// connections. env adds to the environment.
func (n *node) daemon(ctx context.Context, socket string, env []string, name string, args ...string) error {
	log, err := os.Create(n.file(filepath.Base(name) + ".log"))
	if err != nil {
		return err
	}
	defer log.Close()
	cmd := n.command(name, args...)
	cmd.Env = append(os.Environ(), env...)
	cmd.Stdout, cmd.Stderr = log, log
	// A signal from the terminal is for bench alone, which then ends the nodes.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := cmd.Start(); err != nil {
		return err
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	for {
		conn, err := net.Dial("unix", socket)
		if err == nil {
			return conn.Close()
		}
		select {
		case err := <-ended:
			return fmt.Errorf("%s ended: %w\n%s", name, err, tail(log.Name()))
		case <-ctx.Done():
			return fmt.Errorf("%s does not answer: %w\n%s", name, ctx.Err(), tail(log.Name()))
		case <-time.After(20 * time.Millisecond):
		}
	}
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
