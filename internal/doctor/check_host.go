package doctor

import (
	"errors"
	"fmt"
	"strings"

	"github.com/containerd/errdefs"
)

func checkRoot(s seen) []Result {
	const check = "user"
	if s.euid != 0 {
		return []Result{{check, Fail, fmt.Sprintf("runs as user %d, which sees too little of what is examined below", s.euid), "run it as root, such as by sudo"}}
	}
	return []Result{{check, OK, "root", ""}}
}

func checkEngine(s seen) []Result {
	const check = "engine"
	if s.engineErr != nil {
		return []Result{{check, Fail, s.engineErr.Error(), fmt.Sprintf("start Docker Engine (systemctl start docker), or set engine.host if it is not at %s", s.engineHost)}}
	}
	results := []Result{{check, OK, fmt.Sprintf("Docker Engine %s, API %s, at %s", s.engine.Version, s.engine.APIVersion, s.engineHost), ""}}
	for _, p := range s.engine.Problems {
		results = append(results, Result{check, Fail, p.Message, p.Fix})
	}
	return results
}

func checkCgroups(s seen) []Result {
	const check = "cgroups"
	if s.engineErr != nil {
		return nil // said by checkEngine
	}
	driver, version := s.engine.CgroupDriver, s.engine.CgroupVersion
	if driver != "cgroupfs" && driver != "systemd" {
		return []Result{{check, Fail, fmt.Sprintf("the engine's cgroup driver is %q: pods would have no limits", driver),
			`let dockerd write the cgroups of this machine, with "exec-opts": ["native.cgroupdriver=systemd"] (or cgroupfs) in /etc/docker/daemon.json`}}
	}
	results := []Result{{check, OK, fmt.Sprintf("version %s, driver %s, as the kubelet is told", version, driver), ""}}
	if version == "1" {
		results = append(results, Result{check, Warn, "cgroups are version 1: the kubelet refuses to start there from Kubernetes 1.35 on",
			"boot with cgroup v2 (systemd.unified_cgroup_hierarchy=1), or set failCgroupV1: false for the kubelet"})
	}
	if s.systemd && driver == "cgroupfs" && version == "2" {
		results = append(results, Result{check, Warn, "systemd manages the cgroups of this machine, and the engine writes them behind its back",
			`set "exec-opts": ["native.cgroupdriver=systemd"] in /etc/docker/daemon.json and restart dockerd`})
	}
	return results
}

func checkOOMScore(s seen) []Result {
	const check = "oom_score_adj"
	if !s.oomRestricted {
		return []Result{{check, OK, "any value can be given to a pod", ""}}
	}
	return []Result{{check, Warn, fmt.Sprintf("values below %d are raised to it, as CAP_SYS_RESOURCE is missing: the kernel may kill pods of higher priority first", s.oomFloor),
		"start the daemon with CAP_SYS_RESOURCE, which root has outside of containers"}}
}

func checkImage(s seen) []Result {
	const check = "sandbox image"
	switch {
	case s.image.Err != nil:
		return []Result{{check, Fail, s.image.Err.Error(), "build mascri with make, or set sandbox_image"}}
	case s.engineErr != nil:
		return nil // said by checkEngine
	case s.imageErr == nil:
		return []Result{{check, OK, s.image.Ref + " is in the engine", ""}}
	case !errors.Is(s.imageErr, errdefs.ErrNotFound):
		return []Result{{check, Fail, s.imageErr.Error(), "mend what the engine complains of"}}
	case s.image.Embedded:
		return []Result{{check, OK, s.image.Ref + " is loaded into the engine when it is needed", ""}}
	}
	return []Result{{check, Fail, fmt.Sprintf("the engine does not have %s, which sandbox_image names", s.image.Ref),
		fmt.Sprintf("docker pull %s, or remove sandbox_image to use the image that mascri brings", s.image.Ref)}}
}

func checkNetns(s seen) []Result {
	const check = "netns"
	if s.netnsErr != nil {
		return []Result{{check, Fail, fmt.Sprintf("network namespaces can't be pinned in %s: %s", s.netnsDir, oneLine(s.netnsErr)),
			"run the daemon as root with CAP_SYS_ADMIN; in a container, with --privileged and --pid=host"}}
	}
	return []Result{{check, OK, "network namespaces can be pinned in " + s.netnsDir, ""}}
}

// oneLine prints joined errors on one line.
func oneLine(err error) string { return strings.ReplaceAll(err.Error(), "\n", "; ") }
