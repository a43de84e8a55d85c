package pod

import (
	"strings"

	cri "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// State is the CRI state of a sandbox with attachment a (nil: none).
func (s Sandbox) State(a *Attachment) cri.PodSandboxState {
	if s.Ready(a) {
		return cri.PodSandboxState_SANDBOX_READY
	}
	return cri.PodSandboxState_SANDBOX_NOTREADY
}

// Matches tells whether a sandbox in the given state passes filter, all of whose
// fields are combined with AND. A nil filter passes everything. An id may be any
// prefix, as everywhere in Docker.
func (s Sandbox) Matches(filter *cri.PodSandboxFilter, state cri.PodSandboxState) bool {
	if id := filter.GetId(); !strings.HasPrefix(s.ID, id) {
		return false
	}
	if want := filter.GetState(); want != nil && want.GetState() != state {
		return false
	}
	for key, value := range filter.GetLabelSelector() {
		if got, ok := s.Config.GetLabels()[key]; !ok || got != value {
			return false
		}
	}
	return true
}
