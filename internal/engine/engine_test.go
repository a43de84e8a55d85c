package engine_test

import (
	"testing"

	"github.com/mascri/mascri/internal/engine/enginetest"
)

func TestMain(m *testing.M) { enginetest.InNamespaces(m) }

// versions are the engines that every test of this package runs on.
var versions = []enginetest.Version{enginetest.Engine20, enginetest.Engine28}

func TestEnginesKeepTheContract(t *testing.T) {
	for _, version := range versions {
		t.Run(string(version), func(t *testing.T) {
			host := enginetest.Start(t, version, "--bridge=none", "--iptables=false")
			real := func(t *testing.T) enginetest.Subject { return enginetest.Real(t, host) }
			enginetest.Contract(t, real)
			enginetest.ContainerContract(t, real)
		})
	}
}

func TestContainerdImageStoreKeepsTheContract(t *testing.T) {
	host := enginetest.Start(t, enginetest.Engine28, "--bridge=none", "--iptables=false", "--feature", "containerd-snapshotter=true", "--storage-driver", "overlayfs")
	enginetest.ContainerContract(t, func(t *testing.T) enginetest.Subject { return enginetest.Real(t, host) })
}
