package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"

	"github.com/mascri/mascri/internal/sandboximage"
)

// docker is a lane of bare containers: what the engine alone takes.
type docker struct {
	http   *http.Client
	socket string
	cgroup string
}

// docker starts an engine that has shellImage.
func (p *place) docker(ctx context.Context, n *node, engine string) (*docker, error) {
	engine, err := n.engine(engine)
	if err != nil {
		return nil, err
	}
	socket := n.file("docker.sock")
	if err := os.WriteFile(n.file("daemon.json"), []byte("{}\n"), 0o600); err != nil {
		return nil, err
	}
	args := []string{filepath.Join(engine, "sbin/dockerd"),
		"--host", "unix://" + socket, "--data-root", n.file("docker"), "--config-file", n.file("daemon.json"),
		"--storage-driver", "overlay2", "--exec-opt", "native.cgroupdriver=cgroupfs"}
	if n.runtime != runc {
		args = append(args, "--add-runtime", "other="+n.runtime, "--default-runtime", "other")
	}
	if _, err := n.daemon(ctx, socket, []string{enginePath(engine)}, args...); err != nil {
		return nil, err
	}
	dial := func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "unix", socket)
	}
	d := &docker{http: &http.Client{Transport: &http.Transport{DialContext: dial}}, socket: socket, cgroup: p.cgroup + "/pods"}
	return d, d.load(ctx, p.shell)
}

func (d *docker) version(ctx context.Context) (string, error) {
	var answer struct{ Version string }
	err := d.call(ctx, http.MethodGet, "/version", nil, &answer)
	return plain(answer.Version), err
}

func (d *docker) stages() []stage {
	return []stage{
		{"", []step{{part, d.run}}},
		{"", []step{{"", func(ctx context.Context, t *thing) error {
			return d.call(ctx, http.MethodPost, "/containers/"+t.id+"/kill", nil, nil)
		}}}},
		{"", []step{{"", func(ctx context.Context, t *thing) error {
			return d.call(ctx, http.MethodDelete, "/containers/"+t.id+"?force=1", nil, nil)
		}}}},
	}
}

func (d *docker) run(ctx context.Context, t *thing) error {
	var made struct{ ID string }
	err := d.call(ctx, http.MethodPost, "/containers/create?name="+t.name, map[string]any{
		"Image":      sandboximage.Ref(),
		"HostConfig": map[string]any{"NetworkMode": "none", "CgroupParent": d.cgroup},
	}, &made)
	if err != nil {
		return err
	}
	t.id = made.ID
	return d.call(ctx, http.MethodPost, "/containers/"+made.ID+"/start", nil, nil)
}

// load brings an image into the engine.
func (d *docker) load(ctx context.Context, archive string) error {
	data, err := os.ReadFile(archive)
	if err != nil {
		return err
	}
	return d.request(ctx, http.MethodPost, "/images/load", "application/x-tar", bytes.NewReader(data), nil)
}

// call is one request with a body of JSON.
func (d *docker) call(ctx context.Context, method, path string, body, answer any) error {
	data, err := json.Marshal(body)
	if err != nil {
		return err
	}
	if body == nil {
		data = nil
	}
	return d.request(ctx, method, path, "application/json", bytes.NewReader(data), answer)
}

// request is one of API 1.41, which all engines here speak.
func (d *docker) request(ctx context.Context, method, path, contentType string, body io.Reader, answer any) error {
	req, err := http.NewRequestWithContext(ctx, method, "http://engine/v1.41"+path, body)
	if err != nil {
		return err
	}
	req.Header.Set("Content-Type", contentType)
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
