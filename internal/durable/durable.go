// Package durable writes small files so that a crash or a loss of power leaves
// either the old or the new content, never half of one.
package durable

import (
	"errors"
	"os"
	"path/filepath"
)

// TempSuffix marks a file that is being written. One that a crash left is overwritten
// by the next write to the same path.
const TempSuffix = ".tmp"

// WriteFile replaces the file at path by data, readable by its owner only. Once it
// has returned nil, the new content survives a loss of power. One path may be
// written by one goroutine at a time.
func WriteFile(path string, data []byte) error {
	temp := path + TempSuffix
	if err := writeSynced(temp, data); err != nil {
		return errors.Join(err, os.Remove(temp))
	}
	if err := os.Rename(temp, path); err != nil {
		return errors.Join(err, os.Remove(temp))
	}
	return SyncDir(filepath.Dir(path))
}

// Remove deletes the file at path, durably. It is no error if there is none.
func Remove(path string) error {
	if err := os.Remove(path); err != nil {
		if os.IsNotExist(err) {
			return nil
		}
		return err
	}
	return SyncDir(filepath.Dir(path))
}

// SyncDir makes durable what was created, renamed or removed in dir.
func SyncDir(dir string) error {
	f, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}

func writeSynced(path string, data []byte) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	if err == nil {
		err = f.Sync()
	}
	return errors.Join(err, f.Close())
}
