package leaks

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/mascri/mascri/internal/network/firewall"
	"github.com/mascri/mascri/internal/pod"
)

const (
	// lineBreak is what host-local writes between a sandbox's id and its interface.
	lineBreak = "\r\n"
	// lockLimit is how long host-local may keep us waiting: it holds its lock for some
	// milliseconds, but one that is stopped in the middle would do so for ever.
	lockLimit = 2 * time.Second
	lockPoll  = 10 * time.Millisecond
)

// findReservations compares the address files of one network with the attachments. A file
// without content has no owner: host-local writes it under the same lock that is held
// here, so that the writer has crashed, and no DEL finds it any more.
func findReservations(ctx context.Context, dir string, past map[string]Past, present []Present) ([]Leak, error) {
	unlock, err := lockStore(ctx, dir, unix.LOCK_SH)
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer unlock()
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, fmt.Errorf("read reservations: %w", err)
	}
	wanted := map[string]Present{}
	for _, p := range present {
		for _, file := range p.Reserved {
			if filepath.Dir(file) == filepath.Clean(dir) {
				wanted[file] = p
			}
		}
	}
	var found []Leak
	for _, entry := range entries {
		file := filepath.Join(dir, entry.Name())
		if _, err := netip.ParseAddr(entry.Name()); err != nil {
			continue
		}
		owner, err := ownerOf(file)
		if err != nil {
			return found, err
		}
		p, over := past[owner]
		user, needed := wanted[file]
		switch {
		case over && needed: // never free for a moment
			delete(wanted, file)
			what := fmt.Sprintf("%s (of %.12s)", file, owner)
			found = append(found, leak(pod.LeakUnreserved, user.Owner, what, func(ctx context.Context) error { return reserve(ctx, file, owner, user.Owner) }))
		case over:
			found = append(found, leak(pod.LeakAddress, p.Owner, file, func(ctx context.Context) error { return release(ctx, file, owner) }))
		case owner == "" && !needed:
			found = append(found, leak(pod.LeakAddress, firewall.Owner{Network: filepath.Base(dir)}, file+" (empty)", func(ctx context.Context) error { return release(ctx, file, "") }))
		case owner != "":
			delete(wanted, file) // another's would be no business of ours
		}
	}
	for file, p := range wanted {
		found = append(found, leak(pod.LeakUnreserved, p.Owner, file, func(ctx context.Context) error { return reserve(ctx, file, "", p.Owner) }))
	}
	return found, nil
}

// ownerOf returns the sandbox that an address file names; "" where a crash came before it
// was written. A loss of power may leave zeros.
func ownerOf(file string) (string, error) {
	text, err := os.ReadFile(file)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return "", fmt.Errorf("read reservation: %w", err)
	}
	id, _, _ := strings.Cut(string(bytes.Trim(text, "\x00 \r\n")), "\n")
	return strings.TrimSpace(id), nil
}

// release deletes an address file that still names owner.
func release(ctx context.Context, file, owner string) error {
	unlock, err := lockStore(ctx, filepath.Dir(file), unix.LOCK_EX)
	if err != nil {
		return err
	}
	defer unlock()
	if now, err := ownerOf(file); err != nil || now != owner {
		return err
	}
	if err := os.Remove(file); err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("release address: %w", err)
	}
	return nil
}

// reserve writes an address file that still names before; "": nobody.
func reserve(ctx context.Context, file, before string, owner firewall.Owner) error {
	unlock, err := lockStore(ctx, filepath.Dir(file), unix.LOCK_EX)
	if err != nil {
		return err
	}
	defer unlock()
	if now, err := ownerOf(file); err != nil || now != before {
		return err
	}
	if err := os.WriteFile(file, []byte(owner.SandboxID+lineBreak+owner.IfName), 0o600); err != nil {
		return fmt.Errorf("reserve address: %w", err)
	}
	return nil
}

// lockStore takes host-local's own lock on a network's addresses. It makes nothing.
func lockStore(ctx context.Context, dir string, how int) (unlock func(), err error) {
	file, err := os.Open(filepath.Join(dir, "lock"))
	if err != nil {
		return nil, fmt.Errorf("lock addresses: %w", err)
	}
	for end := time.Now().Add(lockLimit); ; {
		err = unix.Flock(int(file.Fd()), how|unix.LOCK_NB)
		if err == nil {
			return func() { file.Close() }, nil
		}
		if !errors.Is(err, unix.EWOULDBLOCK) || time.Now().After(end) {
			file.Close()
			return nil, fmt.Errorf("lock addresses in %s: %w", dir, err)
		}
		select {
		case <-ctx.Done():
			file.Close()
			return nil, ctx.Err()
		case <-time.After(lockPoll):
		}
	}
}
