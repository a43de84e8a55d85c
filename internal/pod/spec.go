package pod

import (
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// SandboxSpec is what a sandbox is made from.
type SandboxSpec struct {
	Name           string // engine container name, from SandboxName
	Instance       string
	Config         *cri.PodSandboxConfig
	RuntimeHandler string
	Image          string // id of the sandbox image
	Files          Files
}

// HintKind says what an engine event was about.
type HintKind string

// The hints that a consumer acts on.
const (
	HintChanged   HintKind = "changed"   // a container of ours may have changed: refresh it
	HintGone      HintKind = "gone"      // a container of ours was removed
	HintConnected HintKind = "connected" // the event stream (re)started: resync
)

// Hint is an engine event reduced to what it is good for: telling that a
// refresh is due. The engine's stream is lossy, so it never carries state.
type Hint struct {
	Kind HintKind
	ID   string // container id; "" with HintConnected
}
