package e2e

import (
	"bytes"
	"context"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/mascri/mascri/internal/engine/enginetest"
)

// podsVariable names the number of pods for TestManyPodsOnOneBridge, whose daemon is then
// built as users have it, for its times and memory are what is asked for.
const podsVariable = "MASCRI_TEST_PODS"

// manyPods is how many pods come at once unless podsVariable tells.
const manyPods = 50

// burst is how many requests are on their way at once.
const burst = 50

// As many pods as a node gets at its start come up at once, each with its own IP, are not
// touched by a crash of the daemon, and go at once. Then all is as it was.
func TestManyPodsOnOneBridge(t *testing.T) {
	pods := manyPods
	if text := os.Getenv(podsVariable); text != "" {
		var err error
		if pods, err = strconv.Atoi(text); err != nil {
			t.Fatalf("%s: %v", podsVariable, err)
		}
	}
	configs := map[string]string{"10-bridge.conflist": strings.Replace(dualStackConf, "\n  ]", `,
    {"type": "firewall", "backend": "iptables"}
  ]`, 1)}
	n := newNode(t, enginetest.Engine28, configs)
	// The bridge and the chains that plugins share come with the first pod, and stay.
	n.removePod(t, n.runPod(t, config("first")).id)
	before := n.trace(t)
	n.logMemory(t, "at first")
	asked := askStatus(t, n, configs)
	ids := make([]string, pods)
	took(t, "up", pods, func(i int) (err error) {
		resp, err := n.cri.RunPodSandbox(t.Context(), &cri.RunPodSandboxRequest{Config: config(fmt.Sprint("pod-", i))})
		ids[i] = resp.GetPodSandboxId()
		return err
	})
	asked()
	n.logMemory(t, "with all pods")
	ips := map[netip.Addr]string{}
	for _, id := range ids {
		s := n.inspect(t, id)
		if s.status.GetState() != cri.PodSandboxState_SANDBOX_READY || len(s.ips) != 2 {
			t.Fatalf("%v", s.status)
		}
		for _, ip := range s.ips {
			if other := ips[ip]; other != "" {
				t.Errorf("%s of %s and %s", ip, other, id)
			}
			ips[ip] = id
		}
	}
	n.wantWhole(t, pods)
	running := n.trace(t)
	n.kill(t)
	began := time.Now()
	n.start(t)
	if ready := time.Since(began); ready > 20*time.Second { // what it should be is in docs/networking.md
		t.Errorf("ready after %v", ready)
	} else {
		t.Logf("ready %v after the start", ready)
	}
	n.wantWhole(t, pods)
	if diff := cmp.Diff(running, n.trace(t)); diff != "" {
		t.Errorf("the restart touched what runs (-before +after):\n%s", diff)
	}
	for ip, id := range ips {
		if s := n.inspect(t, id); s.status.GetState() != cri.PodSandboxState_SANDBOX_READY || !slices.Contains(s.ips, ip) {
			t.Errorf("after the crash: %v, want %s", s.status, ip)
		}
	}
	n.logMemory(t, "after the restart")
	took(t, "gone", pods, func(i int) error { return n.tryRemove(t.Context(), ids[i]) })
	n.wantWhole(t, 0)
	if diff := cmp.Diff(before, n.trace(t)); diff != "" {
		t.Errorf("left (-before +after):\n%s", diff)
	}
	n.logMemory(t, "in the end")
}

// took does something with each pod, up to burst at once, and logs how long it took.
func took(t *testing.T, what string, pods int, do func(i int) error) {
	t.Helper()
	began := time.Now()
	slots := make(chan struct{}, burst)
	var group sync.WaitGroup
	for i := range pods {
		slots <- struct{}{}
		group.Go(func() {
			defer func() { <-slots }()
			if err := do(i); err != nil {
				t.Error(err)
			}
		})
	}
	group.Wait()
	if t.Failed() {
		t.FailNow()
	}
	t.Logf("%d pods %s in %v", pods, what, time.Since(began))
}

// trace is what pods make and leave on a node, in a form that changes with each of them.
type trace struct {
	Containers []string // with pids, so that one that was started anew differs
	Addresses  []string
	Pins       []string // with inodes
	Records    []string
	Cache      []string
	Links      []string // with numbers
	Rules      []string
}

func (n *node) trace(t *testing.T) trace {
	t.Helper()
	tr := trace{
		Records: files(t, filepath.Join(n.state, "attachments")),
		Cache:   files(t, filepath.Join(n.state, "cni", "results")),
	}
	if ids := strings.Fields(n.docker(t, "ps", "-aq", "--no-trunc")); len(ids) > 0 {
		tr.Containers = strings.Split(n.docker(t, append([]string{"inspect", "-f", "{{.Id}} {{.State.Pid}} {{.State.StartedAt}}"}, ids...)...), "\n")
	}
	for _, name := range files(t, "/run/netns") {
		var stat unix.Stat_t
		if err := unix.Stat(filepath.Join("/run/netns", name), &stat); err != nil {
			t.Fatal(err)
		}
		tr.Pins = append(tr.Pins, fmt.Sprint(name, " ", stat.Ino))
	}
	addresses, err := filepath.Glob("/var/lib/cni/networks/*/*[0-9a-f]")
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range addresses {
		if name := filepath.Base(path); strings.HasPrefix(name, "last_reserved") {
			continue
		}
		owner, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		tr.Addresses = append(tr.Addresses, fmt.Sprintf("%s %q", path, owner))
	}
	for line := range strings.Lines(run(t, "ip", "-o", "link")) {
		number, rest, _ := strings.Cut(line, ": ")
		name, _, _ := strings.Cut(rest, ":")
		tr.Links = append(tr.Links, number+" "+name)
	}
	counters := regexp.MustCompile(`\[\d+:\d+\]`)
	for _, command := range []string{"iptables-save", "ip6tables-save"} {
		for line := range strings.Lines(run(t, command)) {
			if !strings.HasPrefix(line, "#") {
				tr.Rules = append(tr.Rules, command+" "+counters.ReplaceAllString(strings.TrimSpace(line), ""))
			}
		}
	}
	slices.Sort(tr.Rules) // plugins keep no order
	slices.Sort(tr.Containers)
	return tr
}

// logMemory logs what the daemon and the engine's processes have for themselves.
func (n *node) logMemory(t *testing.T, when string) {
	t.Helper()
	sum, count := map[string]int{}, map[string]int{}
	processes, err := filepath.Glob("/proc/[0-9]*/comm")
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range processes {
		comm, err := os.ReadFile(file)
		if err != nil {
			continue // ended meanwhile
		}
		name := strings.TrimSpace(string(comm))
		if !strings.HasPrefix(name, "mascri") && name != "dockerd" && !strings.HasPrefix(name, "containerd") {
			continue
		}
		text, err := os.ReadFile(filepath.Join(filepath.Dir(file), "smaps_rollup"))
		if err != nil {
			continue
		}
		_, after, _ := bytes.Cut(text, []byte("\nPss:"))
		fields := strings.Fields(string(after))
		if len(fields) == 0 {
			continue
		}
		kilobytes, err := strconv.Atoi(fields[0])
		if err != nil {
			t.Fatal(err)
		}
		sum[name] += kilobytes
		count[name]++
	}
	for name, kilobytes := range sum {
		t.Logf("%s: %d %s have %d MB (PSS)", when, count[name], name, kilobytes/1000)
	}
}

// askStatus asks for the status as fast as it is answered, while the config is written anew
// now and then, until asked is called, which tells how long it took. It is no timed test:
// an answer that waits for a plugin is told by internal/network.
func askStatus(t *testing.T, n *node, configs map[string]string) (asked func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	var took []time.Duration
	go func() {
		defer close(done)
		for i := 0; ctx.Err() == nil; i++ {
			if i%100 == 50 {
				for name, text := range configs {
					n.writeConf(t, name, text)
				}
			}
			began := time.Now()
			if _, err := n.cri.Status(ctx, &cri.StatusRequest{}); err != nil {
				if ctx.Err() == nil {
					t.Errorf("Status: %v", err)
				}
				return
			}
			took = append(took, time.Since(began))
			time.Sleep(5 * time.Millisecond)
		}
	}()
	return func() {
		cancel()
		<-done
		slices.Sort(took)
		if len(took) < 10 {
			t.Fatalf("Status was answered %d times", len(took))
		}
		t.Logf("%d times Status: p50 %v, p99 %v", len(took), took[len(took)/2], took[len(took)*99/100])
	}
}
