package engine

import (
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/moby/moby/api/types/swarm"
	"github.com/moby/moby/api/types/system"

	"github.com/mascri/mascri/internal/pod"
)

func TestProblems(t *testing.T) {
	root := t.TempDir()
	if err := os.WriteFile(filepath.Join(root, "engine-id"), []byte("abc"), 0o600); err != nil {
		t.Fatal(err)
	}
	const socket = "unix:///run/docker.sock"
	for name, test := range map[string]struct {
		host   string
		api    string
		change func(*system.Info)
		want   []string
	}{
		"none":                          {socket, "1.41", func(*system.Info) {}, nil},
		"no id":                         {socket, "1.41", func(info *system.Info) { info.DockerRootDir = t.TempDir() }, nil},
		"no id where there must be one": {socket, "1.42", func(info *system.Info) { info.DockerRootDir = t.TempDir() }, []string{"EngineElsewhere"}},
		"windows":                       {socket, "1.51", func(info *system.Info) { info.OSType = "windows" }, []string{"EngineNotLinux"}},
		"old":                           {socket, "1.40", func(*system.Info) {}, []string{"EngineTooOld"}},
		"userns": {socket, "1.51", func(info *system.Info) {
			info.SecurityOptions = []string{"name=seccomp,profile=builtin", "name=userns"}
		}, []string{"EngineUsernsRemap"}},
		"rootless":  {socket, "1.51", func(info *system.Info) { info.SecurityOptions = []string{"name=rootless"} }, []string{"EngineRootless"}},
		"nnp":       {socket, "1.51", func(info *system.Info) { info.SecurityOptions = []string{"name=no-new-privileges"} }, []string{"EngineNoNewPrivileges"}},
		"plugins":   {socket, "1.51", func(info *system.Info) { info.Plugins.Authorization = []string{"opa"} }, []string{"EngineAuthorizationPlugin"}},
		"tcp":       {"tcp://10.0.0.1:2376", "1.51", func(*system.Info) {}, []string{"EngineElsewhere"}},
		"no root":   {socket, "1.51", func(info *system.Info) { info.DockerRootDir = "/nowhere" }, []string{"EngineElsewhere"}},
		"other id":  {socket, "1.51", func(info *system.Info) { info.ID = "xyz" }, []string{"EngineElsewhere"}},
		"all named": {"ssh://x", "1.40", func(info *system.Info) { info.SecurityOptions = []string{"name=userns", "name=rootless"} }, []string{"EngineTooOld", "EngineUsernsRemap", "EngineRootless", "EngineElsewhere"}},
	} {
		t.Run(name, func(t *testing.T) {
			info := system.Info{ID: "abc", OSType: "linux", DockerRootDir: root, SecurityOptions: []string{"name=seccomp,profile=builtin", "name=cgroupns"}}
			test.change(&info)
			var got []string
			for _, p := range problems(info, pod.EngineFacts{APIVersion: test.api}, test.host) {
				got = append(got, p.Reason)
				if p.Message == "" || p.Fix == "" {
					t.Errorf("%s has no message or fix: %+v", p.Reason, p)
				}
			}
			if diff := cmp.Diff(test.want, got); diff != "" {
				t.Errorf("problems (-want +got):\n%s", diff)
			}
		})
	}
}

func TestFacts(t *testing.T) {
	got := facts(system.Info{
		ServerVersion: "29.0.0", CgroupDriver: "systemd", CgroupVersion: "2", DockerRootDir: "/d", KernelVersion: "6.1", DefaultRuntime: "runc",
		Runtimes:        map[string]system.RuntimeWithStatus{"runc": {}, "crun": {}},
		SecurityOptions: []string{"name=apparmor", "name=seccomp,profile=builtin", "name=selinux"},
		FirewallBackend: &system.FirewallInfo{Driver: "iptables+firewalld"}, LiveRestoreEnabled: true,
		Swarm: swarm.Info{LocalNodeState: swarm.LocalNodeStateActive},
	}, "1.52")
	want := pod.EngineFacts{
		Version: "29.0.0", APIVersion: "1.52", CgroupDriver: "systemd", CgroupVersion: "2", RootDir: "/d", Kernel: "6.1", DefaultRuntime: "runc",
		Runtimes: []string{"crun", "runc"}, SELinux: true, AppArmor: true, Seccomp: true, LiveRestore: true, Swarm: true, FirewallDriver: "iptables",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("facts (-want +got):\n%s", diff)
	}
}

func TestOOMFloor(t *testing.T) {
	floor, restricted := OOMFloor()
	if !restricted && floor != -1000 || restricted && floor < -1000 {
		t.Errorf("floor %d, restricted %t", floor, restricted)
	}
	// Said once, however many sandboxes are made.
	var log strings.Builder
	e, err := New(Options{Host: "unix:///nowhere", Logger: slog.New(slog.NewTextHandler(&log, nil))})
	if err != nil {
		t.Fatal(err)
	}
	for range 3 {
		if e.oomFloor() != floor {
			t.Errorf("floor %d, want %d", e.oomFloor(), floor)
		}
	}
	if said := strings.Count(log.String(), "clamped"); said != map[bool]int{true: 1, false: 0}[restricted] {
		t.Errorf("said %d times, restricted %t:\n%s", said, restricted, log.String())
	}
}
