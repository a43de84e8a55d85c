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
  readinessProbe: {httpGet: {path: /f, port: 8080}, periodSeconds: 1, timeoutSeconds: 10}`

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
		client := http.Client{Timeout: 10 * time.Second}
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
	if failed > 0 || asked < 20 {
		t.Errorf("%s: %d requests, of which %d failed", name, asked, failed)
	}
	for pod := range after {
		b.wantWholeLog(t, pod)
	}
	b.shows(t, name, "the same %d containers, sandboxes and IPs; %d requests to them meanwhile, none failed; their logs have every line that Docker kept; host-local has the %d IPs of what runs and no other",
		len(after), asked, b.wantNoOtherIPs(t))
}

// wantNoOtherIPs waits until the IPs that are given out are those of sandboxes that run,
// and returns how many there are.
func (b bench) wantNoOtherIPs(t *testing.T) int {
	t.Helper()
	return await(t, patience, "no IP is leaked", func() (int, error) {
		resp, err := b.cri.ListPodSandbox(t.Context(), &cri.ListPodSandboxRequest{Filter: &cri.PodSandboxFilter{
			State: &cri.PodSandboxStateValue{State: cri.PodSandboxState_SANDBOX_READY},
		}})
		if err != nil {
			return 0, err
		}
		var own []string
		for _, s := range resp.GetItems() {
			if ip := b.ipOf(t, s.GetId()); ip != "" { // none on the node's network
				own = append(own, ip)
			}
		}
		slices.Sort(own)
		leases := b.leases(t)
		if slices.Sort(leases); !slices.Equal(own, leases) {
			return 0, fmt.Errorf("sandboxes have %v, host-local gave out %v", own, leases)
		}
		return len(own), nil
	})
}

// wantWholeLog checks that the log of a pod has every line that Docker kept. An engine that
// restarts may lose what it had read and not written.
func (b bench) wantWholeLog(t *testing.T, name string) {
	t.Helper()
	pods, err := b.pods()
	if err != nil {
		t.Fatal(err)
	}
	kept := strings.Split(b.docker(t, "logs", pods[name].container("main").id()), "\n")
	await(t, patience, "the log of "+name+" is whole", func() (struct{}, error) {
		lines, _, err := written(name, pods[name])
		if err == nil && len(lines) < len(kept) {
			err = fmt.Errorf("it has %d lines, Docker's has %d", len(lines), len(kept))
		}
		for i := range kept {
			if err == nil && lines[i] != kept[i] {
				err = fmt.Errorf("line %d is %q, Docker's is %q", i+1, lines[i], kept[i])
			}
		}
		return struct{}{}, err
	})
	if len(kept) < 10 {
		t.Errorf("Docker's log of %s has only %d lines", name, len(kept))
	}
}

// The kubelet that takes over has the gates by which it listens to events and takes
// statistics from the runtime.
func kubeletKilled(t *testing.T, b bench) {
	b.stay(t)
	b.settings["featureGates"] = eventGates
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

// Without live-restore, containers end with their engine. Who asks them meanwhile is refused,
// and no longer once they are made again.
func madeAgain(t *testing.T, b bench) {
	before := b.stay(t)
	end := load(before)
	b.engine.Stop(t)
	b.engine.Start(t)
	began := time.Now()
	again := b.untilAgain(t, before)
	took := time.Since(began)
	asked, failed := end()
	b.shows(t, "pods are made again after an engine that restarts without live-restore", "all %d ready after %.0f s, each with one sandbox, and its former container told as ended; of %d requests to the former IPs %d failed; %s",
		len(again), took.Seconds(), asked, failed, b.wantNoMore(t))
}

// untilAgain returns where the pods are once each runs anew and serves. The kubelet tells of
// each that its former container ended.
func (b bench) untilAgain(t *testing.T, before map[string]place) map[string]place {
	t.Helper()
	for _, name := range staying {
		p := b.until(t, name, "runs anew", func(p pod) bool { return p.ready() && p.container("main").ContainerID != before[name].Container })
		if c := p.container("main"); c.RestartCount == 0 || c.LastState.Terminated == nil {
			t.Errorf("of the former container of %s the kubelet tells %+v", name, c)
		}
	}
	again := b.places(t)
	end := load(again)
	time.Sleep(time.Second)
	if asked, failed := end(); asked == 0 || failed > 0 {
		t.Errorf("of %d requests %d failed", asked, failed)
	}
	return again
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
