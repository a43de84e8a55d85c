package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"

	"golang.org/x/sys/unix"

	"github.com/mascri/mascri/internal/sandboximage"
)

// docker is a lane of bare containers: what the engine alone takes.
type docker struct {
	http   *http.Client
	cgroup string
}

func newDocker(socket, cgroup string) *docker {
	dial := func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "unix", socket)
	}
	return &docker{http: &http.Client{Transport: &http.Transport{DialContext: dial}}, cgroup: cgroup}
}

func (d *docker) version(ctx context.Context) (string, error) {
	var answer struct{ Version string }
	err := d.call(ctx, http.MethodGet, "/version", nil, &answer)
	return plain(answer.Version), err
}

func (d *docker) run(ctx context.Context, name string) (string, error) {
	var made struct{ ID string }
	err := d.call(ctx, http.MethodPost, "/containers/create?name="+name, map[string]any{
		"Image":      sandboximage.Ref(),
		"HostConfig": map[string]any{"NetworkMode": "none", "CgroupParent": d.cgroup},
	}, &made)
	if err != nil {
		return "", err
	}
	return made.ID, d.call(ctx, http.MethodPost, "/containers/"+made.ID+"/start", nil, nil)
}

func (d *docker) stop(ctx context.Context, id string) error {
	return d.call(ctx, http.MethodPost, "/containers/"+id+"/kill", nil, nil)
}

func (d *docker) remove(ctx context.Context, id string) error {
	return d.call(ctx, http.MethodDelete, "/containers/"+id+"?force=1", nil, nil)
}

// call is one request of API 1.41, which all engines here speak.
func (d *docker) call(ctx context.Context, method, path string, body, answer any) error {
	var text io.Reader
	if body != nil {
		data, err := json.Marshal(body)
		if err != nil {
			return err
		}
		text = bytes.NewReader(data)
	}
	req, err := http.NewRequestWithContext(ctx, method, "http://engine/v1.41"+path, text)
	if err != nil {
		return err
	}
	req.Header.Set("Content-Type", "application/json")
	resp, err := d.http.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	data, err := io.ReadAll(resp.Body)
	if err != nil {
		return err
	}
	if resp.StatusCode >= http.StatusBadRequest {
		return fmt.Errorf("%s %s: %s: %s", method, path, resp.Status, data)
	}
	if answer == nil {
		return nil
	}
	return json.Unmarshal(data, answer)
}

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
	return []contestant{{about{"plugins", "CNI ADD (bridge, host-local, ipMasq)", false}, l}}, cycle(ctx, l, "first")
}

func (l *plugins) run(ctx context.Context, name string) (string, error) {
	return name, l.exec(ctx, "ADD", name)
}

func (l *plugins) stop(ctx context.Context, id string) error { return l.exec(ctx, "DEL", id) }

func (l *plugins) remove(context.Context, string) error { return nil }

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
