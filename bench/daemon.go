package main

import (
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"time"
)

// daemon is a command that runs in a node for good, in the node's cgroup.
type daemon struct {
	node   *node
	socket string
	env    []string // on top of this process's
	args   []string
	cmd    *exec.Cmd // nsenter, whose only child the daemon is
	ended  chan error
}

// daemon starts a command and returns once its socket takes connections.
func (n *node) daemon(ctx context.Context, socket string, env []string, args ...string) (*daemon, error) {
	d := &daemon{node: n, socket: socket, env: env, args: args}
	if err := d.start(); err != nil {
		return nil, err
	}
	for {
		conn, err := net.Dial("unix", socket)
		if err == nil {
			return d, conn.Close()
		}
		select {
		case err := <-d.ended:
			return nil, fmt.Errorf("%s ended: %w\n%s", args[0], err, tail(d.log()))
		case <-ctx.Done():
			return nil, fmt.Errorf("%s does not answer: %w\n%s", args[0], ctx.Err(), tail(d.log()))
		case <-time.After(20 * time.Millisecond):
		}
	}
}

func (d *daemon) log() string { return d.node.file(filepath.Base(d.args[0]) + ".log") }

func (d *daemon) start() error {
	log, err := os.OpenFile(d.log(), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	defer log.Close()
	join := `echo 0 > "$0/cgroup.procs" && exec "$@"`
	d.cmd = d.node.command("sh", append([]string{"-c", join, d.node.cgroup}, d.args...)...)
	d.cmd.Env = append(os.Environ(), d.env...)
	d.cmd.Stdout, d.cmd.Stderr = log, log
	// A signal from the terminal is for bench alone, which then ends the nodes.
	d.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := d.cmd.Start(); err != nil {
		return err
	}
	ended := make(chan error, 1)
	d.ended = ended
	go func() { ended <- d.cmd.Wait() }()
	return nil
}

// kill ends the daemon as a crash does, and nothing else of the node.
func (d *daemon) kill() error {
	pid, err := onlyChild(d.cmd.Process.Pid)
	if err != nil {
		return err
	}
	if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
		return err
	}
	if err := <-d.ended; err == nil {
		return fmt.Errorf("%s ended by itself", d.args[0])
	}
	return nil
}
