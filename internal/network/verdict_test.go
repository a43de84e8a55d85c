package network

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/containernetworking/cni/libcni"
)

// A network that is not ready becomes so with the first good answer; one that was ready is
// given a grace.
func TestVerdicts(t *testing.T) {
	net, other := &network{file: "a", list: &libcni.NetworkConfigList{}}, &network{file: "b", list: &libcni.NetworkConfigList{}}
	bad := errors.New("not ready")
	at := func(seconds int) time.Time { return time.Unix(int64(seconds), 0) }
	var v *verdict
	for _, step := range []struct {
		at    int
		net   *network
		said  error
		want  error
		pause time.Duration
	}{
		{0, net, bad, bad, statusFast}, // no grace for what was never ready
		{2, net, nil, nil, statusSlow},
		{32, net, bad, nil, statusFast},
		{40, net, bad, nil, statusFast},
		{42, net, nil, nil, statusSlow}, // it recovered
		{72, net, bad, nil, statusFast},
		{86, net, bad, nil, statusFast},
		{87, net, bad, bad, statusFast}, // 15 s after the first denial
		{89, net, bad, bad, statusFast},
		{91, net, nil, nil, statusSlow},
		{92, other, bad, bad, statusFast}, // that of another says nothing
	} {
		v = v.next(step.net, step.said, at(step.at))
		if !errors.Is(v.err, step.want) || v.pause() != step.pause {
			t.Errorf("at %d s: error %v, pause %v; want %v, %v", step.at, v.err, v.pause(), step.want, step.pause)
		}
	}
	if v = nil; v.pause() != statusFast {
		t.Error("an unknown network is not asked soon")
	}
}

// Plugins that hang, a reload and many pods at the same time: Status waits for
// none of them, and no reload waits for STATUS.
func TestStatusWaitsForNothing(t *testing.T) {
	n := newNode(t)
	hang := strings.Replace(n.bridge(chaos(`{"verbs": ["ADD", "STATUS"], "sleep": "60s"}`)), "1.0.0", "1.1.0", 1)
	n.write("10-bridge.conflist", hang)
	n.start()
	become := n.run()
	ctx, cancel := context.WithTimeout(t.Context(), 4*time.Second)
	defer cancel()
	var pods sync.WaitGroup
	for i := range 50 {
		req := n.sandbox(fmt.Sprint(i))
		pods.Go(func() {
			if _, err := n.Attach(ctx, req); err == nil {
				t.Error("a plugin that hangs succeeded")
			}
		})
	}
	var worst time.Duration
	for i := range 300 {
		if i%100 == 50 {
			n.write("10-bridge.conflist", strings.Replace(hang, "podnet", fmt.Sprint("net", i), 1))
		}
		begun := time.Now()
		n.Status()
		n.Attachments()
		worst = max(worst, time.Since(begun))
		time.Sleep(5 * time.Millisecond)
	}
	become("net250")
	t.Logf("the slowest of 300 answers took %v", worst)
	if worst > time.Second { // any wait for a plugin takes longer; the machine may be slow
		t.Errorf("an answer took %v", worst)
	}
	pods.Wait()
	n.nothingLeft()
}

// libcni's cache is mended from the record at the start.
func TestADamagedCacheIsMended(t *testing.T) {
	n := newNode(t)
	n.write("10-bridge.conflist", n.bridge())
	n.start()
	a := n.attach(n.sandbox("a"))
	cache := n.cacheFile("podnet", a.SandboxID, ifName)
	if err := os.Truncate(cache, 0); err != nil {
		t.Fatal(err)
	}
	n.start().run()
	for end := time.Now().Add(10 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		cached, err := n.cni(nil).GetCachedAttachments(a.SandboxID)
		if err != nil {
			t.Fatal(err)
		}
		if len(cached) == 1 {
			break
		}
		if time.Now().After(end) {
			t.Fatal("it is damaged still")
		}
	}
	n.detach(a.SandboxID)
	n.nothingLeft()
}
