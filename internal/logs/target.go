package logs

import (
	"bytes"
	"context"
	"errors"
	"io/fs"
	"os"
	"syscall"
)

// logMode is as containerd's: log shippers run as root or in its group.
const logMode = 0o640

// append appends out, which was made of the entries from t.files.at on, to the log file.
// The caller then moves on. After an error, or a crash, the same call is to be made
// again: what arrived of out is not written twice. errMoved means that the entries have
// to be read anew.
func (t *tail) append(out []byte) error {
	size, err := t.lookAtTarget()
	if err != nil {
		return err
	}
	skip := 0
	if t.doubtful {
		skip, err = t.arrived(out, size)
		if err != nil {
			return err
		}
	}
	if skip == 0 {
		t.state.Size = size
	}
	if err := t.save(); err != nil {
		return err
	}
	t.step("log-append")
	if _, err := t.target.Write(out[skip:]); err != nil {
		t.doubtful = true
		return err // it names the file
	}
	t.doubtful = t.doubtful && t.state.Size+int64(len(out)) < size
	t.state.Size += int64(len(out))
	t.unsaved = true
	return nil
}

// arrived returns how many bytes of out are in the log file already, whose size is given.
// Where something else comes after them, that is somebody else's.
func (t *tail) arrived(out []byte, size int64) (int, error) {
	found := make([]byte, max(0, min(size-t.state.Size, int64(len(out)))))
	if _, err := t.target.ReadAt(found, t.state.Size); err != nil {
		return 0, err
	}
	equal := 0
	for equal < len(found) && found[equal] == out[equal] {
		equal++
	}
	if equal < len(found) {
		t.doubtful = false
		equal = bytes.LastIndexByte(out[:equal], '\n') + 1
	}
	return equal, nil
}

// endsTorn tells whether the log file ends within a line, which nothing completes.
func (t *tail) endsTorn() (bool, error) {
	size, err := t.lookAtTarget()
	if err != nil || size == 0 {
		return false, err
	}
	last := make([]byte, 1)
	_, err = t.target.ReadAt(last, size-1)
	return last[0] != '\n', err
}

// lookAtTarget returns the log file's size. One that was deleted is begun anew.
func (t *tail) lookAtTarget() (int64, error) {
	if t.target != nil {
		stat, err := t.target.Stat()
		if err != nil {
			return 0, err
		}
		if stat.Sys().(*syscall.Stat_t).Nlink > 0 {
			return stat.Size(), nil
		}
		_ = t.target.Close() // nobody reads it any more
		t.target = nil
	}
	if err := t.findTarget(); err != nil {
		return 0, err
	}
	stat, err := t.target.Stat()
	if err != nil {
		return 0, err
	}
	return stat.Size(), nil
}

// findTarget opens the log file that the state names, wherever it is now, or begins a new
// one. errMoved means that t.files was taken to another place.
func (t *tail) findTarget() error {
	target, err := openByID(t.source, t.state.Target)
	if err != nil {
		return err
	}
	if target != nil {
		return t.resumeTarget(target)
	}
	// The kubelet renamed the log file, did not get the answer to ReopenContainerLog and
	// renamed it back, over the new file: what was in that goes into the old one.
	target, id, err := createTarget(t.source)
	if err != nil {
		return err
	}
	back, began := id == t.state.Before, t.state.Began
	if err := t.beginTarget(target, id); err != nil || !back {
		return err
	}
	return t.moveTo(began)
}

// beginTarget goes on at the end of a log file that nothing is known of.
func (t *tail) beginTarget(target *os.File, id fileID) error {
	stat, err := target.Stat()
	if err != nil {
		return errors.Join(err, target.Close())
	}
	t.target, t.doubtful = target, false
	t.state.Target, t.state.Before = id, fileID{}
	t.state.Began = t.files.at
	t.state.Size, t.state.BeganSize = stat.Size(), stat.Size()
	if t.files.at == (place{}) {
		// Nothing was read, as far as is known: where the state got lost, what is in the
		// log file tells how far it went.
		t.state.Size, t.state.BeganSize, t.doubtful = 0, 0, true
	}
	return nil
}

// resumeTarget goes on with a log file of an earlier life.
func (t *tail) resumeTarget(target *os.File) error {
	stat, err := target.Stat()
	if err != nil {
		return errors.Join(err, target.Close())
	}
	t.target, t.doubtful = target, true
	if stat.Size() >= t.state.Size {
		return nil
	}
	if bootID := t.follower.bootID(); t.state.BootID != bootID {
		// The node lost power, and with it the end of the log file.
		t.state.BootID = bootID
		t.state.Size = min(t.state.BeganSize, stat.Size())
		return t.moveTo(t.state.Began)
	}
	t.state.Size, t.doubtful = stat.Size(), false // somebody truncated it
	return nil
}

func (t *tail) moveTo(to place) error {
	t.files.close()
	t.files.at = to
	t.state.Literal = "" // where it is still true it is found out again
	return errMoved
}

// reopen goes on with a new log file where the present one was renamed.
func (t *tail) reopen(ctx context.Context) error {
	target, id, err := createTarget(t.source)
	if err != nil {
		return err
	}
	if id == t.state.Target && t.target != nil {
		return target.Close() // it was not renamed
	}
	t.step("log-reopened")
	old, before := t.target, t.state
	if err := ctx.Err(); err != nil { // who gave up puts the old file back over the new one
		return errors.Join(err, target.Close())
	}
	if err := t.beginTarget(target, id); err != nil {
		return err
	}
	t.state.Before = before.Target
	if err := t.save(); err != nil {
		t.target, t.state = old, before
		return errors.Join(err, target.Close())
	}
	if old != nil {
		return old.Close() // tells of lost writes on some network filesystems
	}
	return nil
}

// adopt goes on with the file at the path where another one than the target is there: a
// crash came between the making of a new file and the note of it.
func (t *tail) adopt(ctx context.Context) error {
	root, name, err := openRoot(t.source)
	if err != nil {
		return err
	}
	defer root.Close()
	stat, err := root.Lstat(name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil // it was renamed: the request to reopen is to come
	}
	if err != nil || identify(stat) == t.state.Target {
		return err
	}
	return t.serveReopen(ctx)
}
