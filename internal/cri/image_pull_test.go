package cri

import (
	"context"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	cri "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/mascri/mascri/internal/pod"
)

// imageStore has another name than its method.
type imageStore = Images

// slowImages tell of progress now and then, and of none after some time.
type slowImages struct {
	imageStore
	times int
	every time.Duration
	ended *bool // set when a pull did
}

func (i slowImages) PullImage(ctx context.Context, _ string, _ pod.RegistryAuth, progress func()) error {
	defer func() { *i.ended = true }()
	for range i.times {
		select {
		case <-time.After(i.every):
			progress()
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	<-ctx.Done()
	return ctx.Err()
}

// A pull may take any time, but not without progress.
func TestStalledPullEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := New(Options{Images: slowImages{times: 100, every: pullPatience - time.Second, ended: new(bool)}})
		began := time.Now()
		err := s.pull(t.Context(), "registry.test/app:1", pod.RegistryAuth{})
		if !errors.Is(err, context.DeadlineExceeded) || !strings.Contains(err.Error(), "no progress for 5m0s") || !strings.Contains(err.Error(), "registry.test/app:1") {
			t.Errorf("error: %v", err)
		}
		if took, want := time.Since(began), 100*(pullPatience-time.Second)+pullPatience; took != want {
			t.Errorf("it took %v, want %v", took, want)
		}
	})
}

func TestCancelledPullStops(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var ended bool
		s := New(Options{Images: slowImages{ended: &ended}})
		ctx, cancel := context.WithCancel(t.Context())
		time.AfterFunc(time.Second, cancel)
		if _, err := s.PullImage(ctx, &cri.PullImageRequest{Image: &cri.ImageSpec{Image: "registry.test/app:1"}}); !errors.Is(err, context.Canceled) {
			t.Errorf("error: %v", err)
		}
		synctest.Wait()
		if !ended {
			t.Error("the pull goes on")
		}
	})
}
