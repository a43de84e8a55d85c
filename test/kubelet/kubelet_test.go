package kubelet

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"
)

// behaviours are what a kubelet wants of a runtime, in the order of the groups that show
// it. Each is printed with what shows it.
var behaviours = []string{
	"static pods come up with an IP from CNI",
	"init containers and sidecars run in their order",
	"a container that ends is restarted with back-off",
	"probes by exec",
	"probes by http",
	"probes by tcp",
	"probes by grpc",
	"lifecycle hooks run",
	"termination grace is given",
	"a pod's stop signal is sent",
	"volumes: emptyDir on disk and in memory, hostPath, read-only, subPath",
	"environment, downward values, hostname, hosts and termination message",
	"host ports reach the pod",
	"host network is the node's",
	"processes are shared where the pod asks for it",
	"QoS cgroups hold the pod and its limits",
	"too much memory is told as OOMKilled",
	"a pod is resized in place",
	"security contexts: user, groups, fsGroup, read-only root, capabilities, seccomp, sysctls, privileged",
	"image pull policies are kept",
	"an image just built by docker build runs",
	"images come from a registry with credentials, and not without",
	"logs by the kubelet's API with tail, since, previous, limit and timestamps",
	"logs rotate under load and nothing is lost",
	"exec by SPDY",
	"exec by WebSocket",
	"attach by SPDY",
	"attach by WebSocket",
	"a terminal of its client's size by SPDY",
	"a terminal of its client's size by WebSocket",
	"port-forward by SPDY",
	"port-forward by WebSocket",
	"stats/summary tells what a container uses",
	"disk figures of the images' file system are true",
	"pods survive a kubelet that is killed",
	"stats/summary tells what a pod uses, with PodAndContainerStatsFromCRI",
	"metrics/cadvisor tells of pods, with PodAndContainerStatsFromCRI",
	"events tell the kubelet of each transition, with EventedPLEG",
	"pods survive MasCRI's being killed",
	"pods survive an engine that restarts with live-restore",
	"containers that ended are collected",
	"unused images are collected, and never the sandbox image",
	"deleted pods leave nothing",
	"pods are made again after an engine that restarts without live-restore",
	"pods are made again after a reboot",
}

// shown are the behaviours that were seen. It is safe for concurrent use.
type shown struct {
	mu    sync.Mutex
	names []string
}

// is prints a behaviour with what shows it.
func (s *shown) is(t *testing.T, name, format string, args ...any) {
	t.Helper()
	if t.Failed() {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if !slices.Contains(behaviours, name) || slices.Contains(s.names, name) {
		t.Errorf("%q is not in the list of behaviours, or shown already", name)
	}
	s.names = append(s.names, name)
	fmt.Printf("shown  %s: %s\n", name, fmt.Sprintf(format, args...))
}

// bench is what the groups work on.
type bench struct {
	*node
	shown *shown
}

func (b bench) shows(t *testing.T, name, format string, args ...any) {
	t.Helper()
	b.shown.is(t, name, format, args...)
}

// step is a group of behaviours.
type step struct {
	name string
	show func(*testing.T, bench)
}

func TestKubelet(t *testing.T) {
	if _, err := os.Stat(filepath.Join("../..", "bin/kubelet")); err != nil {
		t.Skip("there is no bin/kubelet: run make test-kubelet")
	}
	s := &shown{}
	t.Run("with live-restore", func(t *testing.T) {
		b := bench{newNode(t, "--live-restore"), s}
		t.Run("beside each other", func(t *testing.T) {
			for _, step := range []step{
				{"pods", pods}, {"order", order}, {"back-off", backOff}, {"probes", probes}, {"hooks", hooks}, {"grace", grace},
				{"stop signal", stopSignal}, {"volumes", volumes}, {"environment", environment}, {"network", network},
				{"resources", resources}, {"resize", resize}, {"out of memory", outOfMemory}, {"security", security}, {"image policies", imagePolicies},
				{"image credentials", imageCredentials}, {"logs", logs}, {"rotation", rotation}, {"streams", streams}, {"stats", stats},
			} {
				t.Run(step.name, func(t *testing.T) {
					t.Parallel()
					step.show(t, b)
				})
			}
		})
		for _, step := range []step{
			{"kubelet killed", kubeletKilled}, {"stats from CRI", statsFromCRI}, {"events", events}, {"MasCRI killed", mascriKilled},
			{"engine restarted", engineRestarted}, {"container collection", containerCollection}, {"image collection", imageCollection},
			{"deletion", deletion},
		} {
			t.Run(step.name, func(t *testing.T) { step.show(t, b) })
		}
	})
	t.Run("without live-restore", func(t *testing.T) {
		b := bench{newNode(t), s}
		t.Run("made again", func(t *testing.T) { madeAgain(t, b) })
		t.Run("reboot", func(t *testing.T) { rebooted(t, b) })
	})
	absent := 0
	for _, name := range behaviours {
		if !slices.Contains(s.names, name) {
			fmt.Printf("ABSENT %s\n", name)
			t.Errorf("not shown: %s", name)
			absent++
		}
	}
	fmt.Printf("kubelet: %d behaviours shown, %d absent\n", len(s.names), absent) // for test/all.sh
}
