package logs

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"

	"github.com/containerd/errdefs"
	"golang.org/x/sys/unix"

	"github.com/mascri/mascri/internal/pod"
)

// A pod may have been given the node's logs, to ship them: what it puts in the place of a
// log file, or of a directory on the way to it, must not make MasCRI write elsewhere. So all
// is opened beneath the sandbox's log directory, component by component (os.Root), which no
// race with who exchanges them can get around.

// isBelow tells whether path, as it is written, is root or below it.
func isBelow(path, root string) bool {
	name, err := filepath.Rel(root, path)
	return err == nil && filepath.IsLocal(name)
}

// openRoot opens the log directory, which is made if need be, and returns the log file's
// name in it.
func openRoot(source pod.LogSource) (*os.Root, string, error) {
	name, err := filepath.Rel(source.Root, source.Path)
	if err != nil {
		return nil, "", err // check has seen that it is below
	}
	root, err := os.OpenRoot(source.Root)
	if errors.Is(err, fs.ErrNotExist) {
		if err := os.MkdirAll(source.Root, 0o755); err != nil {
			return nil, "", fmt.Errorf("make log directory: %w", err)
		}
		root, err = os.OpenRoot(source.Root)
	}
	if err != nil {
		return nil, "", fmt.Errorf("open log directory: %w", err)
	}
	return root, name, nil
}

// openByID opens the file of this id at the source's path or, renamed, beside it; nil where
// there is none.
func openByID(source pod.LogSource, id fileID) (*os.File, error) {
	if id == (fileID{}) {
		return nil, nil
	}
	root, name, err := openRoot(source)
	if err != nil {
		return nil, err
	}
	defer root.Close()
	directory, err := root.Open(filepath.Dir(name))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, leadsOut(source, err)
	}
	defer directory.Close()
	entries, err := directory.ReadDir(-1)
	if err != nil {
		return nil, err
	}
	candidates := []string{name}
	for _, entry := range entries {
		candidates = append(candidates, filepath.Join(filepath.Dir(name), entry.Name()))
	}
	for _, candidate := range candidates {
		stat, err := root.Lstat(candidate)
		if err != nil || identify(stat) != id || !stat.Mode().IsRegular() {
			continue // it is gone, or another one
		}
		file, err := root.OpenFile(candidate, os.O_RDWR|os.O_APPEND|unix.O_NONBLOCK, 0)
		if errors.Is(err, fs.ErrNotExist) {
			return openByID(source, id) // renamed right now
		}
		if err != nil {
			return nil, leadsOut(source, err)
		}
		if stat, err := file.Stat(); err != nil || identify(stat) != id { // exchanged right now
			if err := file.Close(); err != nil {
				return nil, err
			}
			continue
		}
		return file, nil
	}
	return nil, nil
}

// createTarget opens the source's log file for appending, with its directories if need be.
func createTarget(source pod.LogSource) (*os.File, fileID, error) {
	root, name, err := openRoot(source)
	if err != nil {
		return nil, fileID{}, err
	}
	defer root.Close()
	// A pipe without a reader must not block.
	flags := os.O_RDWR | os.O_APPEND | os.O_CREATE | unix.O_NONBLOCK
	file, err := root.OpenFile(name, flags, logMode)
	if errors.Is(err, fs.ErrNotExist) {
		if err := root.MkdirAll(filepath.Dir(name), 0o755); err != nil {
			return nil, fileID{}, fmt.Errorf("make log directory: %w", leadsOut(source, err))
		}
		file, err = root.OpenFile(name, flags, logMode)
	}
	if err != nil {
		return nil, fileID{}, leadsOut(source, err)
	}
	stat, err := file.Stat()
	if err == nil && !stat.Mode().IsRegular() {
		err = fmt.Errorf("%s is no regular file: %w", source.Path, errdefs.ErrInvalidArgument)
	}
	if err != nil {
		return nil, fileID{}, errors.Join(err, file.Close())
	}
	return file, identify(stat), nil
}

// leadsOut gives what os.Root refused a kind, and says what it means.
func leadsOut(source pod.LogSource, err error) error {
	var number syscall.Errno
	if errors.As(err, &number) {
		return err // the kernel's
	}
	return fmt.Errorf("a symbolic link leads from %s out of the log directory %s, where nothing is written; remove it: %v: %w", source.Path, source.Root, err, errdefs.ErrFailedPrecondition)
}
