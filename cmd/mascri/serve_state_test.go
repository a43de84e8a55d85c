package main

import (
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mascri/mascri/internal/durable"
)

// A daemon that is killed while it starts a plugin leaves a process that has the lock for a
// moment more.
func TestStateLockOutlivesItsDaemonForAMoment(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		before, err := lockState(dir)
		if err != nil {
			t.Fatal(err)
		}
		go func() {
			time.Sleep(durable.LockPatience / 2)
			before.Close()
		}()
		after, err := lockState(dir)
		if err != nil {
			t.Fatal(err)
		}
		after.Close()
	})
}

func TestStateIsForOneDaemon(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		other, err := lockState(dir)
		if err != nil {
			t.Fatal(err)
		}
		defer other.Close()
		began := time.Now()
		if f, err := lockState(dir); err == nil || !strings.Contains(err.Error(), "in use by another mascri serve") {
			t.Errorf("a second lock: %v, %v", f, err)
		}
		if took := time.Since(began); took > durable.LockPatience+time.Second {
			t.Errorf("refused after %v", took)
		}
	})
}
