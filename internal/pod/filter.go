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
	return selects(filter.GetLabelSelector(), s.Config.GetLabels())
}

// Matches is Sandbox.Matches for a workload container.
func (c Container) Matches(filter *cri.ContainerFilter) bool {
	if !strings.HasPrefix(c.ID, filter.GetId()) || !strings.HasPrefix(c.SandboxID, filter.GetPodSandboxId()) {
		return false
	}
	if want := filter.GetState(); want != nil && want.GetState() != c.State() {
		return false
	}
	return selects(filter.GetLabelSelector(), c.Config.GetLabels())
}

func selects(selector, labels map[string]string) bool {
	for key, value := range selector {
		if got, ok := labels[key]; !ok || got != value {
			return false
		}
	}
	return true
}
