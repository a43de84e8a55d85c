package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"

	"golang.org/x/sys/unix"
)

// plugins is a lane of CNI calls alone, all for one network namespace.
type plugins struct {
	node   *node
	dir    string
	config []byte
}

const pluginsNetns = "/run/netns/bench"

func (p *place) plugins(ctx context.Context, n *node) ([]contestant, error) {
	config, err := os.ReadFile("examples/10-bridge.conf")
	if err != nil {
		return nil, err
	}
	if err := n.run("ip", "netns", "add", filepath.Base(pluginsNetns)); err != nil {
		return nil, err
	}
	l := &plugins{node: n, dir: filepath.Join(p.repo, "bin/cni"), config: config}
	return []contestant{{about{Name: "plugins", Title: "CNI ADD (bridge, host-local, ipMasq)"}, l, nil}}, cycle(ctx, l, "first")
}

func (l *plugins) stages() []stage {
	return []stage{
		{"", []step{{part, func(ctx context.Context, t *thing) error { return l.exec(ctx, "ADD", t.name) }}}},
		{"", []step{{"", func(ctx context.Context, t *thing) error { return l.exec(ctx, "DEL", t.name) }}}},
	}
}

func (l *plugins) exec(ctx context.Context, verb, id string) error {
	cmd := exec.CommandContext(ctx, filepath.Join(l.dir, "bridge"))
	cmd.Stdin = bytes.NewReader(l.config)
	cmd.Env = append(os.Environ(), "CNI_COMMAND="+verb, "CNI_CONTAINERID="+id, "CNI_NETNS="+pluginsNetns, "CNI_IFNAME=eth0", "CNI_PATH="+l.dir)
	return l.node.inside(func() error {
		if out, err := cmd.CombinedOutput(); err != nil {
			return fmt.Errorf("bridge %s: %w\n%s", verb, err, out)
		}
		return nil
	})
}

// inside runs do in the node's mount and network namespaces; what do starts is in its
// pid namespace, too. nsenter would count in the sample.
func (n *node) inside(do func() error) error {
	done := make(chan error, 1)
	go func() {
		runtime.LockOSThread() // never unlocked: the thread ends with this goroutine
		err := errors.Join(unix.Unshare(unix.CLONE_FS), n.enter("net", unix.CLONE_NEWNET), n.enter("pid", unix.CLONE_NEWPID), n.enter("mnt", unix.CLONE_NEWNS))
		if err == nil {
			err = do()
		}
		done <- err
	}()
	return <-done
}

func (n *node) enter(namespace string, kind int) error {
	f, err := os.Open(fmt.Sprintf("/proc/%d/ns/%s", n.pid, namespace))
	if err != nil {
		return err
	}
	defer f.Close()
	return unix.Setns(int(f.Fd()), kind)
}
