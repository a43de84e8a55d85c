package engine

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/moby/moby/api/types/system"
	"github.com/moby/moby/client/pkg/versions"

	"github.com/mascri/mascri/internal/pod"
)

// minAPI is that of engine 20.10, the oldest that is tested against.
const minAPI = "1.41"

// engineIDAPI is that of engine 23.0.
const engineIDAPI = "1.42"

// problems names the settings of an engine under which pods can't work.
func problems(info system.Info, facts pod.EngineFacts, host string) []pod.Problem {
	var found []pod.Problem
	for _, p := range []struct {
		is bool
		pod.Problem
	}{
		{info.OSType != "" && info.OSType != "linux", pod.Problem{
			Reason:  "EngineNotLinux",
			Message: fmt.Sprintf("Docker Engine runs %s containers", info.OSType),
			Fix:     "switch it to Linux containers",
		}},
		{versions.LessThan(facts.APIVersion, minAPI), pod.Problem{
			Reason:  "EngineTooOld",
			Message: fmt.Sprintf("Docker Engine %s speaks API %s, older than %s", facts.Version, facts.APIVersion, minAPI),
			Fix:     "upgrade it to 20.10 or newer",
		}},
		{hasSecurityOption(info, "userns"), pod.Problem{
			Reason:  "EngineUsernsRemap",
			Message: "Docker Engine runs with userns-remap: its containers can't own the network namespaces that CNI sets up",
			Fix:     `remove "userns-remap" from /etc/docker/daemon.json (or --userns-remap from dockerd's flags) and restart dockerd`,
		}},
		{hasSecurityOption(info, "rootless"), pod.Problem{
			Reason:  "EngineRootless",
			Message: "Docker Engine runs rootless: its containers live in a user and network namespace that CNI does not reach",
			Fix:     "use an engine that runs as root",
		}},
		{hasSecurityOption(info, "no-new-privileges"), pod.Problem{
			Reason:  "EngineNoNewPrivileges",
			Message: "Docker Engine sets no-new-privileges on every container, also where a pod allows privilege escalation",
			Fix:     `remove "no-new-privileges" from /etc/docker/daemon.json (or --no-new-privileges from dockerd's flags) and restart dockerd; pods set allowPrivilegeEscalation: false themselves`,
		}},
		{len(info.Plugins.Authorization) > 0, pod.Problem{
			Reason:  "EngineAuthorizationPlugin",
			Message: "Docker Engine asks authorization plugins (" + strings.Join(info.Plugins.Authorization, ", ") + "), which can deny single steps of a pod's life, its cleaning up included",
			Fix:     `remove "authorization-plugins" from /etc/docker/daemon.json (or --authorization-plugin from dockerd's flags) and restart dockerd`,
		}},
	} {
		if p.is {
			found = append(found, p.Problem)
		}
	}
	if why := elsewhere(info, facts.APIVersion, host); why != "" {
		found = append(found, pod.Problem{
			Reason:  "EngineElsewhere",
			Message: why,
			Fix:     "run MasCRI where the engine runs: with its file system, pid and network namespaces, over its Unix socket",
		})
	}
	return found
}

// elsewhere tells why the engine's file system is not the one seen here, "" if it is.
func elsewhere(info system.Info, api, host string) string {
	if !strings.HasPrefix(host, "unix://") {
		return fmt.Sprintf("Docker Engine at %s is not reached over a Unix socket, so it may be on another machine", host)
	}
	if _, err := os.Stat(info.DockerRootDir); err != nil {
		return fmt.Sprintf("Docker Engine's root directory is not seen here (%v): it runs on another machine or in a container", err)
	}
	// Engines from 23.0 leave their id there; with older ones the directory must do.
	id, err := os.ReadFile(filepath.Join(info.DockerRootDir, "engine-id"))
	if os.IsNotExist(err) && versions.GreaterThanOrEqualTo(api, engineIDAPI) {
		return fmt.Sprintf("%s here is not the root directory of Docker Engine at %s, as its file engine-id is missing: it runs on another machine or in a container", info.DockerRootDir, host)
	}
	if err == nil && strings.TrimSpace(string(id)) != info.ID {
		return fmt.Sprintf("%s is the root directory of another Docker Engine than the one at %s", info.DockerRootDir, host)
	}
	return ""
}
