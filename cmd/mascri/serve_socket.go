package main

import (
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"time"

	"github.com/coreos/go-systemd/v22/activation"
	"golang.org/x/sys/unix"
)

// listen returns the socket that systemd handed over, or else a new one at path,
// root's alone to use: who may speak to it owns the node. It returns the path in use.
func listen(path string) (listener net.Listener, at string, err error) {
	handed, err := activation.Listeners()
	if err != nil {
		return nil, "", fmt.Errorf("socket activation: %w", err)
	}
	switch len(handed) {
	case 0:
		listener, err := listenAt(path)
		return listener, path, err
	case 1:
		if handed[0] == nil || handed[0].Addr().Network() != "unix" {
			return nil, "", errors.New("socket activation: the socket is not of type unix stream; set ListenStream= in mascri.socket to a path")
		}
		return handed[0], handed[0].Addr().String(), nil
	}
	return nil, "", fmt.Errorf("socket activation: systemd handed over %d sockets; mascri.socket must have one ListenStream=", len(handed))
}

// listenAt must not run beside anything that makes files: it sets the umask for a moment.
func listenAt(path string) (net.Listener, error) {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return nil, fmt.Errorf("socket: %w", err)
	}
	if err := clearStale(path); err != nil {
		return nil, err
	}
	// It is nobody else's at any moment: not by the umask, nor by a directory that gives its
	// group to what is made in it.
	tmp := path + ".new"
	if err := os.Remove(tmp); err != nil && !os.IsNotExist(err) {
		return nil, fmt.Errorf("socket: %w", err)
	}
	before := unix.Umask(0o177)
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: tmp, Net: "unix"})
	unix.Umask(before)
	if err != nil {
		return nil, fmt.Errorf("socket: %w", err)
	}
	l.SetUnlinkOnClose(false)
	if err := errors.Join(os.Lchown(tmp, 0, 0), os.Chmod(tmp, 0o660), os.Rename(tmp, path)); err != nil {
		return nil, errors.Join(fmt.Errorf("socket: %w", err), l.Close())
	}
	return l, nil
}

// clearStale refuses a path that is no socket of a daemon that died.
func clearStale(path string) error {
	stat, err := os.Lstat(path)
	if os.IsNotExist(err) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("socket: %w", err)
	}
	if stat.Mode().Type() != os.ModeSocket {
		return fmt.Errorf("socket: %s exists and is no socket; remove it or give another --socket", path)
	}
	conn, err := net.DialTimeout("unix", path, time.Second)
	if err == nil {
		conn.Close()
		return fmt.Errorf("socket: another daemon answers on %s; stop it or give another --socket", path)
	}
	return nil
}
