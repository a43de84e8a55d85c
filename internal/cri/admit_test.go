package cri_test

import (
	"context"
	"sync"
	"testing"

	"google.golang.org/grpc/codes"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// What is more than can be served at once is refused, and does not hold up what tells that
// the daemon lives; there is room again once clients are gone.
func TestTooManyRPCsAtOnceAreRefused(t *testing.T) {
	const room = 2000
	d := newDaemon(t)
	ctx, leave := context.WithCancel(t.Context())
	defer leave()
	var group sync.WaitGroup
	for range 20 { // as one by one takes long with the race detector
		group.Go(func() {
			for range room / 20 {
				stream, err := d.GetContainerEvents(ctx, &runtimeapi.GetEventsRequest{})
				if err == nil {
					_, err = stream.Header() // it is under way
				}
				if err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	group.Wait()
	_, err := d.ListPodSandbox(t.Context(), &runtimeapi.ListPodSandboxRequest{})
	wantCode(t, err, codes.ResourceExhausted, "ListPodSandbox", "2000 RPCs", "ask again later")
	_, err = d.image.ListImages(t.Context(), &runtimeapi.ListImagesRequest{})
	wantCode(t, err, codes.ResourceExhausted, "ListImages")
	if _, err := d.Status(t.Context(), &runtimeapi.StatusRequest{}); err != nil {
		t.Errorf("Status: %v", err)
	}
	if _, err := d.Version(t.Context(), &runtimeapi.VersionRequest{}); err != nil {
		t.Errorf("Version: %v", err)
	}
	leave()
	eventually(t, "there is room again", func() bool {
		_, err := d.ListPodSandbox(t.Context(), &runtimeapi.ListPodSandboxRequest{})
		return err == nil
	})
}
