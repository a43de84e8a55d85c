package kubelet

import (
	"fmt"
	"maps"
	"net/http"
	"os"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	cri "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// staying are pods that restarts are shown on: each serves a page and counts in its log.
const stayingSpec = `
terminationGracePeriodSeconds: 2
containers:
- name: main
  image: IMAGE
  command: [sh, -c, "mkdir /www; echo here > /www/f; httpd -p 8080 -h /www; trap exit TERM; while true; do i=$((i+1)); echo line $i; sleep 0.02; done"]
  readinessProbe: {httpGet: {path: /f, port: 8080}, periodSeconds: 1}`

var staying = []string{"stay-1", "stay-2", "stay-3", "stay-4"}

// place is where a pod is.
type place struct{ Container, IP, Sandbox string }

func (b bench) stay(t *testing.T) map[string]place {
	t.Helper()
	for _, name := range staying {
		b.add(t, name, stayingSpec)
	}
	return b.places(t)
}

// places returns where the pods are once all are ready.
func (b bench) places(t *testing.T) map[string]place {
	t.Helper()
	places := map[string]place{}
	for _, name := range staying {
		p := b.untilReady(t, name)
		var ready []string
		for _, s := range b.sandboxes(t, p) {
			if s.GetState() == cri.PodSandboxState_SANDBOX_READY {
				ready = append(ready, s.GetId())
			}
		}
		if len(ready) != 1 {
			t.Errorf("%s has %d sandboxes that are ready", name, len(ready))
			continue
		}
		places[name] = place{p.container("main").ContainerID, p.Status.PodIP, ready[0]}
	}
	return places
}

// load asks all pods for their page until it is ended, and then says how often it was
// refused.
func load(places map[string]place) (end func() (asked, failed int)) {
	var asked, failed int
	var group sync.WaitGroup
	stop := make(chan struct{})
	group.Go(func() {
		client := http.Client{Timeout: time.Second}
		for {
			for _, name := range slices.Sorted(maps.Keys(places)) {
				select {
				case <-stop:
					return
				case <-time.After(5 * time.Millisecond):
				}
				resp, err := client.Get("http://" + places[name].IP + ":8080/f")
				asked++
				if err != nil {
					failed++
					continue
				}
				resp.Body.Close()
			}
		}
	})
	return func() (int, int) { close(stop); group.Wait(); return asked, failed }
}

// survives restarts something under load, after which every pod must be where it was.
func (b bench) survives(t *testing.T, name string, restart func()) {
	t.Helper()
	before := b.places(t)
	end := load(before)
	restart()
	time.Sleep(5 * time.Second) // what a kubelet would do wrong, it does soon
	asked, failed := end()
	after := b.places(t)
	if !maps.Equal(before, after) {
		t.Errorf("%s: before %v, after %v", name, before, after)
	}
	if failed > 0 || asked < 100 {
		t.Errorf("%s: %d requests, of which %d failed", name, asked, failed)
	}
	for pod := range after {
		b.wantWholeLog(t, pod)
	}
	b.shows(t, name, "the same %d containers, sandboxes and IPs; %d requests to them meanwhile, none failed; their logs have every line", len(after), asked)
}

// wantWholeLog checks that no line is missing in the log of a pod that counts.
func (b bench) wantWholeLog(t *testing.T, name string) {
	t.Helper()
	pods, err := b.pods()
	if err != nil {
		t.Fatal(err)
	}
	lines := await(t, 10*time.Second, "the log of "+name+" can be read", func() ([]string, error) {
		lines, _, err := written(name, pods[name])
		return lines, err
	})
	for i, line := range lines {
		if want := fmt.Sprintf("line %d", i+1); line != want {
			t.Errorf("line %d of the log of %s is %q", i+1, name, line)
			return
		}
	}
	if len(lines) == 0 {
		t.Errorf("the log of %s is empty", name)
	}
}

// The kubelet that takes over has the gates by which it listens to events and takes
// statistics from the runtime.
func kubeletKilled(t *testing.T, b bench) {
	b.stay(t)
	b.settings["featureGates"] = map[string]bool{"ContainerStopSignals": true, "PodAndContainerStatsFromCRI": true, "EventedPLEG": true}
	b.survives(t, "pods survive a kubelet that is killed", func() { b.restartKubelet(t, syscall.SIGKILL) })
}

func mascriKilled(t *testing.T, b bench) {
	b.survives(t, "pods survive MasCRI's being killed", func() {
		for range 3 {
			b.mascri.end(t, syscall.SIGKILL)
			b.startMascri(t)
			time.Sleep(500 * time.Millisecond)
		}
	})
}

func engineRestarted(t *testing.T, b bench) {
	b.survives(t, "pods survive an engine that restarts with live-restore", func() {
		b.engine.Stop(t)
		time.Sleep(2 * time.Second)
		b.engine.Start(t)
	})
}

// Without live-restore, containers end with their engine.
func madeAgain(t *testing.T, b bench) {
	before := b.stay(t)
	b.engine.Stop(t)
	b.engine.Start(t)
	began := time.Now()
	again := await(t, 2*time.Minute, "all pods run anew", func() (map[string]place, error) {
		pods, err := b.pods()
		if err != nil {
			return nil, err
		}
		for _, name := range staying {
			if p := pods[name]; !p.ready() || p.container("main").ContainerID == before[name].Container {
				return nil, fmt.Errorf("%s is not", name)
			}
		}
		return b.places(t), nil
	})
	took := time.Since(began)
	ips := map[string]bool{}
	for _, place := range again {
		ips[place.IP] = true
	}
	if len(ips) != len(staying) {
		t.Errorf("IPs %v", again)
	}
	leases := await(t, time.Minute, "no IP is leaked", func() ([]string, error) {
		leases := b.leases(t)
		if len(leases) != len(staying) {
			return nil, fmt.Errorf("host-local has %v", leases)
		}
		return leases, nil
	})
	b.shows(t, "pods are made again after an engine that restarts without live-restore", "all %d ready after %.0f s, each with one sandbox; host-local has their IPs alone: %v", len(again), took.Seconds(), leases)
}

// leases returns the IPs that host-local has given out.
func (n *node) leases(t *testing.T) (ips []string) {
	t.Helper()
	entries, err := os.ReadDir("/var/lib/cni/networks/pods")
	if err != nil && !os.IsNotExist(err) {
		t.Fatal(err)
	}
	for _, entry := range entries {
		if strings.HasPrefix(entry.Name(), "10.88.") {
			ips = append(ips, entry.Name())
		}
	}
	return ips
}
