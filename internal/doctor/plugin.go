package doctor

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os/exec"
	"slices"
	"strings"
	"time"

	"github.com/mascri/mascri/internal/pod"
)

// pluginLimit is how long a plugin may take to tell its version.
const pluginLimit = 2 * time.Second

// pluginVersion is what a CNI plugin says of itself.
type pluginVersion struct {
	plugin    string
	release   string   // such as "CNI bridge plugin v1.9.1"; "" where it does not say
	supported []string // versions of the spec
	err       error
}

// askVersions asks each of the plugins that were found once.
func askVersions(ctx context.Context, plugins []pod.Plugin) []pluginVersion {
	var all []pluginVersion
	var asked []string
	for _, p := range plugins {
		if p.Path == "" || slices.Contains(asked, p.Path) {
			continue
		}
		asked = append(asked, p.Path)
		all = append(all, askVersion(ctx, p))
	}
	return all
}

func askVersion(ctx context.Context, p pod.Plugin) pluginVersion {
	v := pluginVersion{plugin: p.Type}
	out, err := runPlugin(ctx, p.Path, `{"cniVersion": "1.0.0"}`, "CNI_COMMAND=VERSION")
	var answer struct {
		Supported []string `json:"supportedVersions"`
	}
	if err == nil {
		err = json.Unmarshal(out, &answer)
	}
	if err != nil {
		v.err = fmt.Errorf("plugin %q does not tell the versions that it knows: %w", p.Type, err)
		return v
	}
	v.supported = answer.Supported
	// Without a command, plugins made with the CNI project's library tell their release.
	if out, err := runPlugin(ctx, p.Path, ""); err == nil {
		first, _, _ := strings.Cut(string(out), "\n")
		v.release = strings.TrimSpace(first)
	}
	return v
}

// runPlugin returns what a plugin prints on either of its outputs.
func runPlugin(ctx context.Context, path, stdin string, env ...string) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, pluginLimit)
	defer cancel()
	cmd := exec.CommandContext(ctx, path)
	cmd.Env = append([]string{"CNI_PATH="}, env...)
	cmd.Stdin = strings.NewReader(stdin)
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	cmd.WaitDelay = pluginLimit
	err := cmd.Run()
	return out.Bytes(), err
}
