package engine

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/containerd/errdefs"
	"golang.org/x/sys/unix"
)

// processTree is the processes that came of one exec: its first one, which leads a session,
// all in that session, and the descendants of all these. What left the session and lost
// its parent before anybody looked is not in it: that is how a daemon makes itself one.
type processTree struct {
	leader    int    // pid of the exec's first process
	container string // id
	init      int    // pid of the container's first process
}

// treePoll is the pause between two looks at processes that were killed.
const treePoll = 5 * time.Millisecond

// stopLimit is how long a process may take to stop before it is killed as it is.
const stopLimit = 500 * time.Millisecond

// kill returns once none of the processes is left. current tells whether the engine still
// takes leader for the running exec's; it is asked after the process was opened, so that
// one which took over the number is never hit.
//
// Processes are stopped as they are found, until no new ones are, before any is killed:
// what is stopped can neither fork nor leave.
func (t processTree) kill(ctx context.Context, current func() (bool, error)) error {
	held := map[int]int{} // pidfds of those that were found, by pid
	release := func() {
		for _, fd := range held {
			_ = unix.Close(fd)
		}
		clear(held) // the numbers of those that ended may be given anew
	}
	defer release()
	if err := t.hold(held, current); err != nil {
		return err
	}
	for {
		found, err := t.stop(ctx, held)
		if err != nil {
			return err
		}
		if found {
			continue
		}
		for pid, fd := range held {
			if err := signal(fd, unix.SIGKILL); err != nil {
				return fmt.Errorf("kill process %d: %w", pid, err)
			}
		}
		if err := t.await(ctx, held); err != nil {
			return err
		}
		release()
		// One that could not be stopped in time may have forked.
		if found, err = t.stop(ctx, held); !found {
			return err
		}
	}
}

// hold opens the leader, where it still runs.
func (t processTree) hold(held map[int]int, current func() (bool, error)) error {
	fd, openErr := unix.PidfdOpen(t.leader, 0)
	if openErr == nil {
		held[t.leader] = fd
	}
	runs, err := current()
	if !runs && err == nil && openErr == nil {
		runs = t.isExec()
	}
	switch {
	case err != nil:
		return err
	case !runs && openErr == nil: // somebody else's by now
		delete(held, t.leader)
		return unix.Close(fd)
	case !runs:
		return nil
	case openErr != nil && !errors.Is(openErr, unix.ESRCH):
		return fmt.Errorf("open process %d: %w", t.leader, openErr)
	case openErr != nil || !t.contains(t.leader):
		return errdefs.ErrInternal.WithMessage(fmt.Sprintf("process %d, which the engine names, is none of container %s here: "+
			"MasCRI has to run in the engine's pid namespace", t.leader, t.container))
	}
	return nil
}

// isExec tells whether the leader is a process of the container that somebody outside of it
// started: an exec's, also where the engine lost sight of it. It may do so where it could
// not deliver the output.
func (t processTree) isExec() bool {
	p, ok := process(t.leader)
	return ok && t.leader != t.init && t.contains(t.leader) && !t.contains(p.parent)
}

// stop stops the processes that are held, and finds and holds more. It looks once they are
// stopped: what one forks at the last moment must not be missed.
func (t processTree) stop(ctx context.Context, held map[int]int) (found bool, err error) {
	for pid, fd := range held {
		if err := signal(fd, unix.SIGSTOP); err != nil {
			return false, fmt.Errorf("stop process %d: %w", pid, err)
		}
	}
	for pid, fd := range held {
		if err := awaitStopped(ctx, pid, fd); err != nil {
			return false, fmt.Errorf("stop process %d: %w", pid, err)
		}
	}
	all, err := processes()
	if err != nil {
		return false, err
	}
	_, leads := held[t.leader]
	if _, taken := all[t.leader]; taken && !leads && !all[t.leader].dead() {
		return false, nil // the number was given anew, so nothing of the session is left
	}
	for pid, p := range all {
		if _, known := held[pid]; known || p.dead() || !t.claims(pid, p, held) {
			continue
		}
		fd, err := unix.PidfdOpen(pid, 0)
		if errors.Is(err, unix.ESRCH) {
			continue
		}
		if err != nil {
			return false, fmt.Errorf("open process %d: %w", pid, err)
		}
		// The number may be another process's by now: what it is now is what fd is of,
		// as long as that takes a signal.
		now, ok := process(pid)
		if !ok || !t.claims(pid, now, held) || signal(fd, 0) != nil {
			_ = unix.Close(fd)
			continue
		}
		held[pid] = fd
		found = true
	}
	return found, nil
}

// awaitStopped returns once a process that was sent SIGSTOP runs none of its own code any
// more, or stopLimit is over. One that sleeps in the kernel (D) stops before it does again.
// One that is being started is continued by the kernel when its first parent leaves it.
func awaitStopped(ctx context.Context, pid, fd int) error {
	for limit := time.Now().Add(stopLimit); time.Now().Before(limit); {
		p, ok := process(pid)
		if signal(fd, 0) != nil { // the number may be another's by now
			return nil
		}
		if !ok || p.dead() || p.state == 'T' || p.state == 't' || p.state == 'D' {
			return nil
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(time.Millisecond):
		}
		if err := signal(fd, unix.SIGSTOP); err != nil {
			return err
		}
	}
	return nil
}

// claims tells whether a process is one of the tree.
func (t processTree) claims(pid int, p stat, held map[int]int) bool {
	if _, child := held[p.parent]; child {
		return true
	}
	return p.session == t.leader && pid != t.init && t.contains(pid)
}

// contains tells whether a process is in the container: by its cgroup, which engines name
// after it, or where an OCI runtime has its own mind, by its pid namespace.
func (t processTree) contains(pid int) bool {
	cgroups, err := os.ReadFile(fmt.Sprintf("/proc/%d/cgroup", pid))
	if err == nil && bytes.Contains(cgroups, []byte(t.container)) {
		return true
	}
	its, err := os.Readlink(fmt.Sprintf("/proc/%d/ns/pid", pid))
	if err != nil {
		return false
	}
	containers, err := os.Readlink(fmt.Sprintf("/proc/%d/ns/pid", t.init))
	if err != nil {
		return false
	}
	own, err := os.Readlink("/proc/self/ns/pid")
	return err == nil && its == containers && its != own
}

// await returns once the held processes ended.
func (t processTree) await(ctx context.Context, held map[int]int) error {
	for pid, fd := range held {
		for {
			ended, err := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, 0)
			if err != nil && !errors.Is(err, unix.EINTR) {
				return fmt.Errorf("wait for process %d: %w", pid, err)
			}
			if ended > 0 {
				break
			}
			select {
			case <-ctx.Done():
				return fmt.Errorf("process %d of container %s goes on after SIGKILL: %w", pid, t.container, ctx.Err())
			case <-time.After(treePoll):
			}
		}
	}
	return nil
}

// signal does nothing to a process that ended.
func signal(pidfd int, number unix.Signal) error {
	err := unix.PidfdSendSignal(pidfd, number, nil, 0)
	if errors.Is(err, unix.ESRCH) && number != 0 {
		return nil
	}
	return err
}

// stat is what /proc tells of a process.
type stat struct {
	state   byte
	parent  int
	session int
}

func (s stat) dead() bool { return s.state == 'Z' || s.state == 'X' }

// processes returns all that /proc shows, by pid.
func processes() (map[int]stat, error) {
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return nil, err
	}
	all := map[int]stat{}
	for _, entry := range entries {
		pid, err := strconv.Atoi(entry.Name())
		if err != nil {
			continue
		}
		if p, ok := process(pid); ok {
			all[pid] = p
		}
	}
	return all, nil
}

// process returns false for one that is gone.
func process(pid int) (stat, bool) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return stat{}, false
	}
	// The command's name, in parentheses, may hold anything.
	fields := strings.Fields(string(text[bytes.LastIndexByte(text, ')')+1:]))
	if len(fields) < 4 {
		return stat{}, false
	}
	parent, parentErr := strconv.Atoi(fields[1])
	session, sessionErr := strconv.Atoi(fields[3])
	return stat{fields[0][0], parent, session}, parentErr == nil && sessionErr == nil
}
