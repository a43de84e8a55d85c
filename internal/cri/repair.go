package cri

import (
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	"github.com/containerd/errdefs"
	"golang.org/x/sync/errgroup"

	"github.com/mascri/mascri/internal/pod"
	"github.com/mascri/mascri/internal/undo"
)

const (
	repairEvery = 10 * time.Second // all that is not as it should be is tried again
	repairBusy  = time.Second      // later, where somebody is at work on the sandbox
	repairsMost = 4                // at once
	repairLimit = 90 * time.Second // for one sandbox
	drainsMost  = 8                // log files completed at once
	drainLimit  = 20 * time.Second // for all of them; what is left is completed later
	followLimit = time.Second      // for a log file to be there, which others wait for; it goes on
	leaksEvery  = 10 * time.Minute // what plugins leave is looked for
	leaksLimit  = 2 * time.Minute
)

// Run recovers the state of an earlier life, then keeps putting right what crashes
// and other hands leave behind, until ctx ends.
func (s *Server) Run(ctx context.Context) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-s.opts.Index.Synced():
	}
	s.recover()
	s.sweep()
	tick := time.NewTicker(repairEvery)
	defer tick.Stop()
	slots := make(chan struct{}, repairsMost)
	var group sync.WaitGroup
	defer group.Wait()
	var looked time.Time
	for {
		if time.Since(looked) > leaksEvery && s.opts.Index.Complete() && !s.repairs.hiding() {
			looked = time.Now()
			group.Go(func() { s.mendLeaks(ctx) })
		}
		for _, id := range s.repairs.take() {
			group.Go(func() {
				defer s.repairs.done(id)
				select {
				case slots <- struct{}{}:
					s.repair(ctx, id)
					<-slots
				case <-ctx.Done():
				}
			})
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-s.repairs.wake:
		case <-tick.C:
			s.repairs.add(slices.Concat(s.known(), s.repairs.left())...)
			s.sweep()
		}
	}
}

// mendLeaks is for when the index shows all sandboxes there are.
func (s *Server) mendLeaks(ctx context.Context) {
	var ids []string
	for _, sandbox := range s.opts.Index.Sandboxes() {
		ids = append(ids, sandbox.ID)
	}
	ctx, cancel := context.WithTimeout(ctx, leaksLimit)
	defer cancel()
	if _, err := s.opts.Network.MendLeaks(ctx, ids); err != nil {
		s.log.Warn("leftovers on the network could not all be looked for; it is tried again", "error", err)
	}
}

// sweep deletes the files of sandboxes that others removed, or that a crash came
// before deleting. It waits for a time when the index shows all sandboxes there are.
func (s *Server) sweep() {
	if s.repairs.hiding() || !s.opts.Index.Complete() {
		return
	}
	if err := s.files.sweep(s.opts.Index.Sandboxes); err != nil {
		s.log.Warn("files of former sandboxes could not be deleted; it is tried again", "error", err)
	}
}

// Changed tells that a sandbox may be in need of repair, or a container has begun to run
// without our doing, as by docker start. It asks nothing of the engine.
func (s *Server) Changed(id string) {
	container, err := s.opts.Index.Container(id)
	switch {
	case err != nil:
		s.repairs.add(id)
	case container.Running && s.isRecovered():
		ctx, cancel := context.WithTimeout(context.Background(), followLimit)
		defer cancel()
		if err := s.followLog(ctx, container); err != nil {
			s.log.Error("a container's log can't be written", "container", id, "error", err)
		}
	}
}

// recover looks at all that an earlier life left, hides the sandboxes that it had
// not finished (nobody was ever told their ids) and lets the RPCs in. The repairs
// themselves follow: a plugin that hangs must not keep the node down.
func (s *Server) recover() {
	for _, sandbox := range s.opts.Index.Sandboxes() {
		a := s.attachment(sandbox.ID)
		switch {
		case unfinished(sandbox, a):
			s.repairs.hide(sandbox.ID, s.opts.Index.Hide(sandbox.Name))
		case sandbox.Ready(a):
			s.finishFiles(sandbox, a)
		}
	}
	s.recoverContainers()
	s.repairs.add(s.known()...)
	close(s.recovered)
}

// recoverContainers goes on with the log files, and completes those of containers that
// ended meanwhile before anyone is told so.
func (s *Server) recoverContainers() {
	if err := s.updates.load(s.isKnown); err != nil {
		s.log.Error("changes of resources are not known any more", "error", err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), drainLimit)
	defer cancel()
	var group errgroup.Group
	group.SetLimit(drainsMost)
	for _, container := range s.opts.Index.Containers() {
		if container.StartedAt.IsZero() {
			continue
		}
		group.Go(func() error {
			err := s.followLog(ctx, container)
			if err == nil && !container.Running {
				err = s.opts.Logs.Drain(ctx, container.ID)
			}
			if err != nil {
				s.log.Error("a container's log is not complete", "container", container.ID, "error", err)
			}
			s.limitAgain(ctx, container.ID)
			return nil
		})
	}
	_ = group.Wait() // each has logged its own
	if err := s.opts.Logs.Sweep(ctx, s.isKnown); err != nil {
		s.log.Warn("what is kept of the logs of former containers could not be deleted", "error", err)
	}
}

// limitAgain does what the crash may have come before. One that can't be limited must not
// run: where it can't be ended now, that is tried again.
func (s *Server) limitAgain(ctx context.Context, id string) {
	err := s.limit(id)
	if err == nil {
		return
	}
	end := func(ctx context.Context) error { return s.endContainer(ctx, id) }
	left := end(ctx)
	if left != nil {
		s.repairs.leave(id, end)
	}
	s.log.Error("a container can't be limited; it is ended", "container", id, "error", errors.Join(err, left))
}

func (s *Server) isKnown(id string) bool {
	_, noSandbox := s.opts.Index.Sandbox(id)
	_, noContainer := s.opts.Index.Container(id)
	return noSandbox == nil || noContainer == nil || !s.opts.Index.Complete()
}

// finishFiles writes what the crash may have come before.
func (s *Server) finishFiles(sandbox pod.Sandbox, a *pod.Attachment) {
	var attachment pod.Attachment
	if a != nil {
		attachment = *a
	}
	if err := s.files.finish(sandbox, attachment); err != nil {
		s.log.Error("a pod may lack its own addresses in hosts", "sandbox", sandbox.ID, "error", err)
	}
}

// unfinished tells of a sandbox, not being made now, that RunPodSandbox did not get
// through with.
func unfinished(sandbox pod.Sandbox, a *pod.Attachment) bool {
	switch {
	case sandbox.StartedAt.IsZero():
		return true
	case a != nil: // without a result, it was never attached: ADD failed, or the crash came before
		return a.Phase == pod.Attaching || a.Phase == pod.Detaching && a.Result == nil
	}
	return sandbox.Running && !sandbox.HostNetwork()
}

// known returns the ids of all sandboxes and of all attachments.
func (s *Server) known() []string {
	var ids []string
	for _, sandbox := range s.opts.Index.Sandboxes() {
		ids = append(ids, sandbox.ID)
	}
	for _, a := range s.opts.Network.Attachments() {
		ids = append(ids, a.SandboxID)
	}
	return ids
}

// repair makes one sandbox right again. What fails is tried again later, and so is
// one that an RPC is at work on: it may leave something.
func (s *Server) repair(ctx context.Context, id string) {
	unlock, ok := s.locks.Try(id)
	if !ok {
		s.repairs.addLater(id, repairBusy)
		return
	}
	defer unlock()
	ctx, cancel := context.WithTimeout(ctx, repairLimit)
	defer cancel()
	if err := s.repairLocked(ctx, id); err != nil {
		s.log.Warn("repair failed; it is tried again", "sandbox", id, "error", err)
	}
	s.repairs.reveal(id)
}

func (s *Server) repairLocked(ctx context.Context, id string) error {
	if s.repairs.hasLeft(id) {
		return s.repairs.settle(ctx, id)
	}
	a := s.attachment(id)
	if seen, err := s.opts.Index.Sandbox(id); err == nil && !s.needsRepair(seen, a) {
		return nil
	}
	// The index hides what is being made, and may be late: ask the engine itself.
	sandbox, err := s.opts.Engine.Inspect(ctx, id)
	switch {
	case errdefs.IsNotFound(err):
		if a != nil {
			s.log.Info("sandbox was removed behind our back; giving back its network", "sandbox", id)
		}
		s.opts.Index.Removed(id)
		err = errors.Join(s.opts.Network.Detach(ctx, id, nil), s.forgetContainer(ctx, id))
		s.sweep()
		return err
	case errors.Is(err, pod.ErrForeign):
		return nil
	case err != nil:
		return err
	case s.flights.flies(sandbox.Name):
		return nil
	case !s.needsRepair(sandbox, a):
		return s.opts.Index.Refresh(ctx, id) // what it shows, if anything, is not so any more
	case s.repairs.isDoomed(id) || unfinished(sandbox, a):
		s.log.Info("removing a sandbox that was never finished", "sandbox", id)
		if err := s.ofSandbox(ctx, id, s.removeContainer); err != nil { // one that lost its attachment can have some
			return err
		}
		return s.remove(ctx, sandbox)
	}
	// Its process died or was started anew, in another network namespace, or a detach
	// failed: what it has on the network is of no use to anyone.
	s.log.Info("sandbox is dead; giving back its network", "sandbox", id)
	return s.stop(ctx, id)
}

// needsRepair tells whether the sandbox, not being made now, is neither whole nor
// cleanly stopped.
func (s *Server) needsRepair(sandbox pod.Sandbox, a *pod.Attachment) bool {
	return s.repairs.isDoomed(sandbox.ID) || unfinished(sandbox, a) || a != nil && !sandbox.Ready(a)
}

// undo runs the rollback of what was done for a container, by its id or name, which the
// caller holds. What fails of it is tried again until it succeeds.
func (s *Server) undo(ctx context.Context, key string, back *undo.Stack) error {
	steps := *back
	err := back.Run(ctx, undoLimit)
	if err != nil {
		s.repairs.leave(key, func(ctx context.Context) error {
			again := steps
			return again.Run(ctx, undoLimit)
		})
	}
	return err
}
