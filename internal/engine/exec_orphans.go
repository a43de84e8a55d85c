package engine

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"time"

	"github.com/containerd/errdefs"
	"github.com/moby/moby/client"
	"golang.org/x/sync/errgroup"
)

// A command runs on where the daemon that follows it is killed, and nobody takes its output or
// ends it by its timeout any more. So each exec has a note from before its start to its end: a
// file named by its id, with the id of its container in it. A note is not synced, as no exec
// outlives the node.

// orphansEvery is how often execs that could not be ended are tried again.
const orphansEvery = 10 * time.Second

var execPattern = regexp.MustCompile(`^[0-9a-f]{64}$`)

// note writes the note of an exec. Where the disk is full, a command is run all the same: a
// probe that fails by that would end a container that is well.
func (e *Engine) note(exec, container string) {
	if e.execsDir == "" {
		return
	}
	e.execs.Store(exec, true)
	err := os.WriteFile(filepath.Join(e.execsDir, exec), []byte(container), 0o600)
	if errors.Is(err, fs.ErrNotExist) {
		if err = os.MkdirAll(e.execsDir, 0o700); err == nil {
			err = os.WriteFile(filepath.Join(e.execsDir, exec), []byte(container), 0o600)
		}
	}
	if err != nil {
		e.log.Warn("a command that runs could not be noted; it goes on if MasCRI is killed", "container", container, "error", err)
	}
}

// forget removes the note of an exec that ended.
func (e *Engine) forget(exec string) {
	if e.execsDir == "" {
		return
	}
	if err := os.Remove(filepath.Join(e.execsDir, exec)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		e.log.Warn("the note of a command that ended could not be removed; it is tried again at the next start", "error", err)
	}
	e.execs.Delete(exec)
}

// EndOrphans ends the commands that an earlier life of the daemon left behind, and returns
// once none is left, or ctx ended.
func (e *Engine) EndOrphans(ctx context.Context) error {
	for {
		err := e.endOrphans(ctx)
		if err == nil {
			return nil
		}
		e.log.Debug("commands of an earlier life could not be ended; it is tried again", "error", err)
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(orphansEvery):
		}
	}
}

func (e *Engine) endOrphans(ctx context.Context) error {
	notes, err := os.ReadDir(e.execsDir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("read the notes of commands: %w", err)
	}
	var all errgroup.Group
	for _, note := range notes {
		exec := note.Name()
		if _, present := e.execs.Load(exec); present || !execPattern.MatchString(exec) {
			continue
		}
		all.Go(func() error {
			container, err := os.ReadFile(filepath.Join(e.execsDir, exec))
			if err != nil {
				return err
			}
			if err := e.endOrphan(ctx, exec, string(container)); err != nil {
				return err
			}
			e.forget(exec)
			return nil
		})
	}
	return all.Wait()
}

// endOrphan goes by what the engine knows now: what it takes for ended is left alone, as the
// number of its process may be another's since long.
func (e *Engine) endOrphan(ctx context.Context, exec, container string) error {
	c, err := e.connection(ctx)
	if err != nil {
		return err
	}
	now, err := c.api.ExecInspect(ctx, exec, client.ExecInspectOptions{})
	if err != nil {
		if err = e.failed("inspect exec in container "+container, err); errors.Is(err, errdefs.ErrNotFound) {
			return nil
		}
		return err
	}
	if !now.Running && now.PID != 0 {
		return nil
	}
	x := &execution{engine: e, api: c.api, id: exec, container: container}
	if err := x.kill(ctx); err != nil {
		return err
	}
	e.log.Info("a command that an earlier life of MasCRI followed is over", "container", container)
	return nil
}
