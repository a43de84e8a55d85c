package engine

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/containerd/errdefs"
	"github.com/moby/moby/client"

	"github.com/mascri/mascri/internal/pod"
)

const (
	// noDetachKeys stands where the engine would otherwise look for ctrl-p,ctrl-q in what
	// is typed into a terminal, to cut it off there. There is no way to say "none", so it
	// is a sequence that nobody types. Of it, the engine holds back the first key until
	// the next is typed, so it begins with one that is rare.
	noDetachKeys = "ctrl-^,ctrl-@,ctrl-^,ctrl-@,ctrl-^,ctrl-@,ctrl-^,ctrl-@"
	// maxStartFailure bounds what is kept of the engine's words on a failed start, in bytes.
	maxStartFailure = 4 << 10
	// firstSizeLimit is how long a command is held back for its terminal's size.
	firstSizeLimit = 100 * time.Millisecond
	// execPoll and maxExecPoll are the first and the longest pause between two looks at an
	// exec whose end or beginning is waited for.
	execPoll    = 2 * time.Millisecond
	maxExecPoll = 200 * time.Millisecond
	// execStartLimit is how long an exec whose start was cut off may take to appear.
	execStartLimit = 8 * time.Second
	// execKillLimit is how long the end of an exec's processes may take.
	execKillLimit = 20 * time.Second
)

// Exec runs a command in a container that runs, as the user and with the environment of
// its first process, and returns the command's exit code. It returns once the command
// ended and its output is through; background processes that hold the output open are
// waited for by the engine, for 2 s.
//
// When ctx ends, or nobody takes the output any more, the command and its descendants
// are killed before Exec returns. The error is ErrFailedPrecondition for a container that
// does not run, ErrNotFound where there is none, and ErrInvalidArgument for a command that
// can't be started, in the engine's words.
func (e *Engine) Exec(ctx context.Context, container string, command []string, streams pod.Streams) (exitCode int, err error) {
	c, id, err := e.own(ctx, container)
	if err == nil && id == "" {
		err = errdefs.ErrNotFound.WithMessage("container " + container + " does not exist")
	}
	if err != nil {
		return 0, err
	}
	created, err := c.api.ExecCreate(ctx, id, client.ExecCreateOptions{
		Cmd: command, TTY: streams.TTY, AttachStdin: streams.Stdin != nil, DetachKeys: noDetachKeys,
		// Always attached, as it is by their end that the engine tells of the command's.
		AttachStdout: true, AttachStderr: !streams.TTY,
	})
	if err != nil {
		return 0, notRunning(e.failed("create exec in container "+id, err))
	}
	x := &execution{engine: e, api: c.api, id: created.ID, container: id, command: command}
	e.note(x.id, id)
	exitCode, err = x.run(ctx, streams)
	if x.over {
		e.forget(x.id)
		return exitCode, err
	}
	// Whatever went wrong, nobody follows the command any more.
	x.abandon(ctx)
	if x.killErr == nil {
		e.forget(x.id)
	} else { // the next life tries again
		err = fmt.Errorf("%w; killing it failed: %w", err, x.killErr)
	}
	return 0, err
}

// notRunning says what a conflict means where something is asked of a running container.
func notRunning(err error) error {
	if errors.Is(err, errdefs.ErrConflict) {
		return errdefs.ErrFailedPrecondition.WithMessage(err.Error())
	}
	return err
}

// execution is one exec from its creation to its end. It is for one goroutine, but for
// sawOutput.
type execution struct {
	engine    *Engine
	api       *client.Client
	id        string
	container string
	command   []string // arguments may be secrets: only the first word is told

	over    bool // ended, or never to begin
	killed  bool // killErr tells how that went
	killErr error
	started bool   // set by sawOutput
	failure []byte // the engine's words where it could not start; written by sawOutput
}

func (x *execution) run(ctx context.Context, streams pod.Streams) (int, error) {
	what := fmt.Sprintf("exec %q in container %s", x.command[0], x.container)
	size := firstSize(ctx, streams)
	attached, err := x.attach(ctx, client.ExecAttachOptions{TTY: streams.TTY, ConsoleSize: client.ConsoleSize{Height: uint(size.Height), Width: uint(size.Width)}})
	if err != nil {
		err = x.engine.failed(what, err)
		x.over = errors.Is(err, errdefs.ErrInternal) // it was refused
		return 0, x.engine.notUpgraded(ctx, x.container, err)
	}
	l := line{conn: attached.HijackedResponse, streams: streams, halfClose: !streams.TTY, size: size, resize: func(ctx context.Context, size pod.TerminalSize) error {
		_, err := x.api.ExecResize(ctx, x.id, client.ExecResizeOptions{Height: uint(size.Height), Width: uint(size.Width)})
		return err
	}}
	l.first = func(output []byte) (bool, error) { return x.sawOutput(ctx, output) }
	l.abandon = func() { x.abandon(ctx) }
	if err := l.carry(ctx); err != nil {
		return 0, x.engine.failed(what, err)
	}
	end, err := x.await(ctx, func(now client.ExecInspectResult) bool { return !now.Running })
	if err != nil {
		return 0, err
	}
	x.over = true
	if end.PID == 0 {
		text := strings.TrimSpace(string(x.failure))
		return 0, errdefs.ErrInvalidArgument.WithMessage(fmt.Sprintf("command %q can't be started in container %s: %s", x.command[0], x.container, text))
	}
	return end.ExitCode, nil
}

// attach starts the command. It does not give up in the middle: an engine whose client is
// gone by then takes the exec for one that failed, and knows its process no more. Where ctx
// ends first, an engine that answers in time is heard, for the command to be killed.
func (x *execution) attach(ctx context.Context, options client.ExecAttachOptions) (client.ExecAttachResult, error) {
	free, giveUp := context.WithCancel(context.WithoutCancel(ctx))
	stop := context.AfterFunc(ctx, func() { time.AfterFunc(execStartLimit, giveUp) })
	defer stop()
	attached, err := x.api.ExecAttach(free, x.id, options)
	if err != nil {
		giveUp()
	}
	return attached, err
}

// firstSize waits a little for the terminal's size, so that the command begins with it.
// Engines before 23.0 (API 1.42) take no notice of it at the start.
func firstSize(ctx context.Context, streams pod.Streams) (size pod.TerminalSize) {
	if !streams.TTY || streams.Resize == nil {
		return size
	}
	select {
	case size = <-streams.Resize:
	case <-time.After(firstSizeLimit):
	case <-ctx.Done():
	}
	return size
}

// sawOutput takes output that is none of the command's: the engine writes there why it
// could not start. What a command itself wrote is there only once it was started.
func (x *execution) sawOutput(ctx context.Context, output []byte) (taken bool, err error) {
	if !x.started {
		now, err := x.await(ctx, func(now client.ExecInspectResult) bool { return now.PID != 0 || !now.Running })
		if err != nil {
			return false, err
		}
		x.started = now.PID != 0
	}
	if !x.started {
		x.failure = append(x.failure, output[:min(len(output), maxStartFailure-len(x.failure))]...)
	}
	return !x.started, nil
}

// await asks the engine until the exec is as wanted.
func (x *execution) await(ctx context.Context, wanted func(client.ExecInspectResult) bool) (client.ExecInspectResult, error) {
	for pause := execPoll; ; pause = min(2*pause, maxExecPoll) {
		now, err := x.api.ExecInspect(ctx, x.id, client.ExecInspectOptions{})
		if err != nil {
			return now, x.engine.failed("inspect exec in container "+x.container, err)
		}
		if wanted(now) {
			return now, nil
		}
		select {
		case <-ctx.Done():
			return now, fmt.Errorf("exec in container %s: %w", x.container, ctx.Err())
		case <-time.After(pause):
		}
	}
}

// abandon is kill, once. It has to come before the connection is closed: an engine that
// can't deliver output takes the exec for one that failed, and knows its process no more.
func (x *execution) abandon(ctx context.Context) {
	if !x.killed {
		x.killed, x.killErr = true, x.kill(ctx)
	}
}

// kill ends the command and its descendants, whatever has become of ctx. One that ended
// or never began is no error.
func (x *execution) kill(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), execKillLimit)
	defer cancel()
	// The engine may still be busy with a start that was cut off, or not have begun it.
	limit := time.Now().Add(execStartLimit)
	now, err := x.await(ctx, func(now client.ExecInspectResult) bool {
		return now.PID != 0 || !now.Running && time.Now().After(limit)
	})
	switch {
	case errors.Is(err, errdefs.ErrNotFound) || err == nil && now.PID == 0:
		return nil // the container is gone, and all of it; or the exec never began
	case err != nil:
		return err
	}
	item, err := x.engine.inspect(ctx, &connection{api: x.api}, x.container)
	switch {
	case errors.Is(err, errdefs.ErrNotFound):
		return nil
	case err != nil:
		return err
	}
	tree := processTree{leader: now.PID, container: x.container, init: pidOf(item)}
	if tree.init == 0 {
		return nil // a container's first process takes all others with it
	}
	return tree.kill(ctx, func() (bool, error) {
		again, err := x.api.ExecInspect(ctx, x.id, client.ExecInspectOptions{})
		if err != nil {
			return false, x.engine.failed("inspect exec in container "+x.container, err)
		}
		return again.Running && again.PID == now.PID, nil
	})
}

func pidOf(item pod.Item) int {
	if item.Sandbox != nil {
		return item.Sandbox.PID
	}
	return item.Container.PID
}

// notUpgraded gives a request for a stream that the engine refused its kind: the client
// hides it.
func (e *Engine) notUpgraded(ctx context.Context, container string, err error) error {
	if !errors.Is(err, errdefs.ErrInternal) {
		return err
	}
	item, lookErr := e.Look(ctx, container)
	switch {
	case lookErr != nil:
		return lookErr
	case pidOf(item) == 0:
		return errdefs.ErrFailedPrecondition.WithMessage("container " + container + " does not run any more")
	}
	return err
}
