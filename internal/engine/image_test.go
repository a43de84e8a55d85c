package engine_test

import (
	"testing"

	"github.com/mascri/mascri/internal/engine/enginetest"
)

func TestEnginesKeepTheImageContract(t *testing.T) {
	for name, engine := range map[string]struct {
		version    enginetest.Version
		flags      []string
		containerd bool
	}{
		"engine 20.10":                     {enginetest.Engine20, nil, false},
		"engine 28":                        {enginetest.Engine28, nil, false},
		"engine 28/containerd image store": {enginetest.Engine28, []string{"--feature", "containerd-snapshotter=true", "--storage-driver", "overlayfs"}, true},
	} {
		t.Run(name, func(t *testing.T) {
			host := enginetest.Start(t, engine.version, append([]string{"--bridge=none", "--iptables=false"}, engine.flags...)...)
			enginetest.ImageContract(t, func(t *testing.T) enginetest.Subject {
				s := enginetest.Real(t, host)
				s.SystemCAOnly = engine.containerd
				return s
			})
		})
	}
}
