package network

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"

	"github.com/containernetworking/cni/libcni"

	"github.com/mascri/mascri/internal/pod"
)

// Plan is what Attach would do for a sandbox.
type Plan struct {
	Network    string `json:"network"`
	ConfigFile string `json:"configFile"` // "" for the embedded default network
	Calls      []Call `json:"calls"`
}

// Call is one run of a plugin for ADD.
type Call struct {
	Plugin string `json:"plugin"`
	Path   string `json:"path"`
	// IPAM is the plugin that this one runs with the same environment and stdin, if any.
	IPAM string   `json:"ipam,omitempty"`
	Env  []string `json:"env"` // CNI's part; the rest is the daemon's own environment
	// Stdin is exact but for prevResult, which nobody knows before the plugins ran: it
	// is a string that says whose result will be there.
	Stdin json.RawMessage `json:"stdin"`
}

// Explain tells what Attach would do for req, whose PID and Confirm are not used. No
// plugin runs, and nothing is made. Errors are those of Attach.
func (n *Network) Explain(ctx context.Context, req pod.AttachRequest) (Plan, error) {
	rec, err := n.plan(ctx, req)
	if err != nil {
		return Plan{}, err
	}
	list, err := rec.list()
	if err != nil {
		return Plan{}, err
	}
	// libcni writes the result to its cache, which is not to be the real one.
	cache, err := os.MkdirTemp("", "mascri-plan-")
	if err != nil {
		return Plan{}, fmt.Errorf("make a directory for libcni: %w", err)
	}
	dry := &dryExec{}
	_, err = libcni.NewCNIConfigWithCacheDir(n.cfg.BinDirs, cache, dry).AddNetworkList(ctx, list, rec.runtimeConf(rec.NetnsPath))
	if err := errors.Join(err, os.RemoveAll(cache)); err != nil {
		return Plan{}, err
	}
	for i, plugin := range list.Plugins {
		dry.calls[i].IPAM = plugin.Network.IPAM.Type
	}
	return Plan{Network: rec.Network, ConfigFile: rec.ConfigFile, Calls: dry.calls}, nil
}

// dryExec notes for libcni what it would run.
type dryExec struct {
	pluginExec
	calls []Call
}

// ExecPlugin implements invoke.Exec. What it answers is only good for libcni.
func (d *dryExec) ExecPlugin(_ context.Context, path string, stdin []byte, environ []string) ([]byte, error) {
	var config map[string]json.RawMessage
	if err := json.Unmarshal(stdin, &config); err != nil {
		return nil, fmt.Errorf("plan: %w", err)
	}
	name := path[strings.LastIndexByte(path, '/')+1:]
	answer := fmt.Appendf(nil, `{"cniVersion": %s}`, config["cniVersion"])
	call := Call{Plugin: name, Path: path, Stdin: slices.Clone(stdin)}
	if _, ok := config["prevResult"]; ok && len(d.calls) > 0 {
		config["prevResult"] = fmt.Appendf(nil, "%q", "what "+d.calls[len(d.calls)-1].Plugin+" prints")
		var err error
		if call.Stdin, err = json.Marshal(config); err != nil {
			return nil, fmt.Errorf("plan: %w", err)
		}
	}
	for _, entry := range environ {
		if strings.HasPrefix(entry, "CNI_") {
			call.Env = append(call.Env, entry)
		}
	}
	slices.Sort(call.Env)
	d.calls = append(d.calls, call)
	return answer, nil
}
