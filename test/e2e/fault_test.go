package e2e

import (
	"context"
	"strings"
	"testing"
	"time"

	cri "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/mascri/mascri/internal/engine/enginetest"
)

// An engine that hangs in the middle of an RPC on images, or of an exec, is told in time,
// and the same can be asked again once it is back. No process of an exec is left.
func TestEngineHangsInImageAndExecRPCs(t *testing.T) {
	bothEngines(t, func(t *testing.T, version enginetest.Version) {
		b := newBench(t, newNode(t, version, userConf()))
		b.importShell(t)
		c := b.runContainer(t, b.request("app", ""))
		hang := b.freezeIn(t)
		spec := &cri.ImageSpec{Image: b.image}
		exec := func(ctx context.Context) error {
			_, err := b.cri.ExecSync(ctx, &cri.ExecSyncRequest{ContainerId: c.id, Cmd: []string{"sh", "-c", "sleep 0.2; sleep 0.1"}, Timeout: 10})
			return err
		}
		for _, tt := range []struct {
			name, in string // the engine's request
			call     func(ctx context.Context) error
		}{
			{"list images", "GET /images/json", func(ctx context.Context) error {
				_, err := b.node.image.ListImages(ctx, &cri.ListImagesRequest{})
				return err
			}},
			{"image status", "GET " + b.image + "/json", func(ctx context.Context) error {
				_, err := b.node.image.ImageStatus(ctx, &cri.ImageStatusRequest{Image: spec})
				return err
			}},
			{"pull", "POST /images/create", func(ctx context.Context) error {
				_, err := b.node.image.PullImage(ctx, &cri.PullImageRequest{Image: spec})
				return err
			}},
			{"remove image", "DELETE ", func(ctx context.Context) error {
				_, err := b.node.image.RemoveImage(ctx, &cri.RemoveImageRequest{Image: &cri.ImageSpec{Image: shellImage}})
				return err
			}},
			{"create exec", "POST /exec", exec},
			{"start exec", "POST /start", exec},
		} {
			t.Run(tt.name, func(t *testing.T) {
				hang.Store(tt.in)
				b.wantInTime(t, tt.call)
				b.engine.Thaw(t)
				b.waitCondition(t, b.runtimeCondition, 5*time.Second, "")
				b.repeat(t, tt.call)
			})
		}
		within(t, "no process of an exec is left", func() bool { return strings.Count(b.docker(t, "top", c.id), "\n") == 1 }) // and a heading
		b.removePod(t, b.pod.id)
		b.wantWhole(t, 0)
	})
}
