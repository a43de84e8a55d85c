package main

import (
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/mascri/mascri/internal/durable"
)

// lockPatience is how long the lock of a daemon that was killed may outlive it: what it was
// just starting, such as a plugin, holds it until it runs a program of its own.
const lockPatience = 5 * time.Second

// lockState makes the state directory and takes it for this process until the
// process ends: two daemons on one state would undo each other's work.
func lockState(dir string) (*os.File, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("state directory: %w", err)
	}
	f, err := os.OpenFile(filepath.Join(dir, "lock"), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("state directory: %w", err)
	}
	err = unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
	for end := time.Now().Add(lockPatience); errors.Is(err, unix.EWOULDBLOCK) && time.Now().Before(end); {
		time.Sleep(lockPatience / 100)
		err = unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
	}
	if err != nil {
		f.Close()
		if errors.Is(err, unix.EWOULDBLOCK) {
			return nil, fmt.Errorf("state directory %s is in use by another mascri serve; stop that one, or give this one a --state-dir and a --socket of its own", dir)
		}
		return nil, fmt.Errorf("lock %s: %w", f.Name(), err)
	}
	return f, nil
}

var instancePattern = regexp.MustCompile(`^[0-9a-f]{32}$`)

// instanceID returns the id of this daemon: 32 hex digits, made at the first start
// and kept in the state directory. It marks as ours whatever the daemon makes.
func instanceID(dir string) (string, error) {
	path := filepath.Join(dir, "instance")
	text, err := os.ReadFile(path)
	if err == nil {
		id := strings.TrimSpace(string(text))
		if !instancePattern.MatchString(id) {
			return "", fmt.Errorf("%s: %q is no instance id (32 hex digits); put back the one that the io.mascri.v1 labels of the sandboxes name, or remove the file once the engine has none", path, id)
		}
		return id, nil
	}
	if !os.IsNotExist(err) {
		return "", fmt.Errorf("instance id: %w", err)
	}
	var raw [16]byte
	if _, err := rand.Read(raw[:]); err != nil {
		return "", fmt.Errorf("instance id: %w", err)
	}
	id := hex.EncodeToString(raw[:])
	if err := durable.WriteFile(path, []byte(id+"\n")); err != nil {
		return "", fmt.Errorf("instance id: %w", err)
	}
	return id, nil
}
