package durable

import (
	"errors"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// LockPatience is how long the lock of a process that was killed may outlive it: what it was
// just starting, such as a plugin, holds it until it runs a program of its own.
const LockPatience = 5 * time.Second

// Lock takes f for this process until f is closed. The error is unix.EWOULDBLOCK where
// another process has it.
func Lock(f *os.File) error {
	err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
	for end := time.Now().Add(LockPatience); errors.Is(err, unix.EWOULDBLOCK) && time.Now().Before(end); {
		time.Sleep(LockPatience / 100)
		err = unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
	}
	return err
}
