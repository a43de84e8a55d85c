package e2e

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"sync"
	"testing"
	"time"

	cri "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/mascri/mascri/internal/engine/enginetest"
)

// As many pods as a node gets at its start come up at once, each with its own IP, keep
// it over a crash of the daemon, and go at once.
func TestManyPodsAtOnce(t *testing.T) {
	const pods = 50
	n := newNode(t, enginetest.Engine28, userConf())
	asked := askStatus(t, n)
	began := time.Now()
	ids := make([]string, pods)
	var group sync.WaitGroup
	for i := range ids {
		group.Go(func() {
			resp, err := n.cri.RunPodSandbox(t.Context(), &cri.RunPodSandboxRequest{Config: config(fmt.Sprint("pod-", i))})
			if err != nil {
				t.Error(err)
			}
			ids[i] = resp.GetPodSandboxId()
		})
	}
	group.Wait()
	if t.Failed() {
		t.FailNow()
	}
	t.Logf("%d pods up in %v", pods, time.Since(began))
	asked()
	before := map[netip.Addr]string{}
	for _, id := range ids {
		s := n.inspect(t, id)
		if s.status.GetState() != cri.PodSandboxState_SANDBOX_READY || len(s.ips) != 1 {
			t.Fatalf("%v", s.status)
		}
		if other := before[s.ips[0]]; other != "" {
			t.Errorf("%s of %s and %s", s.ips[0], other, id)
		}
		before[s.ips[0]] = id
	}
	n.kill(t)
	n.start(t)
	n.wantWhole(t, pods)
	for ip, id := range before {
		if s := n.inspect(t, id); s.status.GetState() != cri.PodSandboxState_SANDBOX_READY || s.ips[0] != ip {
			t.Errorf("after the crash: %v, want %s", s.status, ip)
		}
	}
	began = time.Now()
	for _, id := range ids {
		group.Go(func() {
			if _, err := n.cri.StopPodSandbox(t.Context(), &cri.StopPodSandboxRequest{PodSandboxId: id}); err != nil {
				t.Error(err)
			}
			if _, err := n.cri.RemovePodSandbox(t.Context(), &cri.RemovePodSandboxRequest{PodSandboxId: id}); err != nil {
				t.Error(err)
			}
		})
	}
	group.Wait()
	t.Logf("%d pods gone in %v", pods, time.Since(began))
	n.wantWhole(t, 0)
}

// askStatus asks for the status as fast as it is answered, while the config is written anew
// now and then, until asked is called, which tells how long it took. It is no timed test:
// an answer that waits for a plugin is told by internal/network.
func askStatus(t *testing.T, n *node) (asked func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	var took []time.Duration
	go func() {
		defer close(done)
		for i := 0; ctx.Err() == nil; i++ {
			if i%100 == 50 {
				for name, text := range userConf() {
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
