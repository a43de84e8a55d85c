package cri

import (
	"time"

	"github.com/containerd/errdefs"
	"google.golang.org/grpc"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/mascri/mascri/internal/pod"
)

// GetContainerEvents tells every transition of sandboxes and containers once, from when
// the response header is sent until the client leaves. A client that can't keep up gets
// ResourceExhausted after the last event before the first that it missed.
func (s *Server) GetContainerEvents(_ *cri.GetEventsRequest, stream grpc.ServerStreamingServer[cri.ContainerEventResponse]) error {
	select {
	case <-s.recovered: // what is found at start is no transition
	case <-s.ending:
		return errEnding
	case <-stream.Context().Done():
		return s.ready(stream.Context())
	}
	changes, stop := s.opts.Index.Watch()
	defer stop()
	if err := stream.SendHeader(nil); err != nil {
		return err
	}
	for {
		select {
		case <-stream.Context().Done():
			return stream.Context().Err()
		case <-s.ending:
			return errEnding
		case change, ok := <-changes:
			if !ok {
				return errdefs.ErrResourceExhausted.WithMessage("the client reads events more slowly than they come: some are missed; list again, then subscribe again")
			}
			for _, event := range s.eventsOf(change) {
				if err := stream.Send(event); err != nil {
					return err
				}
			}
		}
	}
}

var errEnding = errdefs.ErrUnavailable.WithMessage("MasCRI is ending")

// eventsOf returns the transitions that make up a change, in their order. All have the
// pod as it is after the change.
func (s *Server) eventsOf(change pod.Change) (events []*cri.ContainerEventResponse) {
	kinds := transitions(lifeOf(change.Old), lifeOf(change.New))
	if len(kinds) == 0 {
		return nil
	}
	id := change.New
	if id == (pod.Item{}) {
		id = change.Old
	}
	var sandbox *cri.PodSandboxStatus
	if change.Sandbox != nil {
		last := *change.Sandbox
		if change.New == (pod.Item{}) && change.Old.Sandbox != nil {
			last.Running = false // it was removed while it ran
		}
		sandbox = sandboxStatus(last, s.attachment(last.ID))
	}
	var containers []*cri.ContainerStatus
	for _, c := range change.Containers {
		containers = append(containers, s.containerStatus(c))
	}
	for _, kind := range kinds {
		events = append(events, &cri.ContainerEventResponse{
			ContainerId: id.ID(), ContainerEventType: kind, CreatedAt: change.At.UnixNano(),
			PodSandboxStatus: sandbox, ContainersStatuses: containers,
		})
	}
	return events
}

// life is how far a container has come. One that was started again has another started.
type life struct {
	exists, running, ended bool
	started                time.Time
}

func lifeOf(i pod.Item) life {
	switch {
	case i.Sandbox != nil:
		s := i.Sandbox
		return life{exists: true, running: s.Running, ended: !s.Running && !s.StartedAt.IsZero(), started: s.StartedAt}
	case i.Container != nil:
		c := i.Container
		return life{exists: true, running: c.Running, ended: c.State() == cri.ContainerState_CONTAINER_EXITED, started: c.StartedAt}
	}
	return life{}
}

// transitions returns what lies between two views, which need not have seen all that
// happened: what ended quickly was started, too.
func transitions(old, now life) (kinds []cri.ContainerEventType) {
	add := func(kind cri.ContainerEventType, happened bool) {
		if happened {
			kinds = append(kinds, kind)
		}
	}
	began := now.exists && !now.started.IsZero() && !now.started.Equal(old.started)
	add(cri.ContainerEventType_CONTAINER_CREATED_EVENT, !old.exists && now.exists)
	add(cri.ContainerEventType_CONTAINER_STOPPED_EVENT, old.running && (!now.running || began))
	add(cri.ContainerEventType_CONTAINER_STARTED_EVENT, began)
	// Its end is told already where the life that ended is the one that was known.
	add(cri.ContainerEventType_CONTAINER_STOPPED_EVENT, now.ended && (began || !old.running && !old.ended))
	add(cri.ContainerEventType_CONTAINER_DELETED_EVENT, old.exists && !now.exists)
	return kinds
}
