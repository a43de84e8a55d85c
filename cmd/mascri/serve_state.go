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

	"golang.org/x/sys/unix"

	"github.com/mascri/mascri/internal/cri"
	"github.com/mascri/mascri/internal/durable"
	"github.com/mascri/mascri/internal/logs"
	"github.com/mascri/mascri/internal/network/defaultnet"
)

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
	if err := durable.Lock(f); err != nil {
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

// refuseNewer keeps this build off a state directory that a later version has written to,
// where it would write over what it does not understand. The network's records it leaves
// to the network, which reads them all at the start.
func refuseNewer(dir string) error {
	for pattern, build := range map[string]int{
		"default-network.json": defaultnet.StateVersion,
		"logs/*":               logs.StateVersion,
		"updates/*.json":       cri.UpdateVersion,
	} {
		if err := durable.RefuseNewer(filepath.Join(dir, pattern), build); err != nil {
			return err
		}
	}
	return nil
}
