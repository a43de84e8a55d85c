package network

import (
	"os"
	"path/filepath"
)

// tempSuffix marks a file that is being written.
const tempSuffix = ".tmp"

// writeFile replaces dir/name by data, so that after a crash or a loss of power
// the old or the new content is there, and after it returned the new one. One
// name may be written by one goroutine at a time.
func writeFile(dir, name string, data []byte) error {
	temp := filepath.Join(dir, name+tempSuffix)
	if err := writeSynced(temp, data); err != nil {
		os.Remove(temp)
		return err
	}
	if err := os.Rename(temp, filepath.Join(dir, name)); err != nil {
		os.Remove(temp)
		return err
	}
	return syncDir(dir)
}

func writeSynced(path string, data []byte) error {
	file, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	defer file.Close()
	if _, err := file.Write(data); err != nil {
		return err
	}
	if err := file.Sync(); err != nil {
		return err
	}
	return file.Close()
}

// syncDir makes what was created, renamed or deleted in dir durable.
func syncDir(dir string) error {
	file, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer file.Close()
	return file.Sync()
}
