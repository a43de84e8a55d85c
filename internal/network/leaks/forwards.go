package leaks

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"os"
	"path/filepath"
	"slices"

	"golang.org/x/sys/unix"

	"github.com/mascri/mascri/internal/network/firewall"
	"github.com/mascri/mascri/internal/pod"
)

// findForwards looks for the rules of the plugin firewall. They tell an address and nobody's
// name, so that only host-local's files tell whether it is somebody else's by now.
func findForwards(ctx context.Context, past []Past) ([]Leak, error) {
	addresses := map[netip.Addr]Past{}
	for _, p := range past {
		for _, ip := range p.IPs { // the latest that had it
			if len(p.Stores) > 0 {
				addresses[ip] = p
			}
		}
	}
	rules, err := firewall.FindForwardRules(ctx, slices.Collect(maps.Keys(addresses)))
	var found []Leak
	var errs []error
	for _, r := range rules {
		p := addresses[r.IP]
		free, err := withoutOwner(ctx, p, r.IP, unix.LOCK_SH, func() error { return nil })
		errs = append(errs, err)
		if err == nil && free {
			found = append(found, leak(pod.LeakRules, p.Owner, r.Where, func(ctx context.Context) error {
				_, err := withoutOwner(ctx, p, r.IP, unix.LOCK_EX, func() error { return r.Remove(ctx) })
				return err
			}))
		}
	}
	return found, errors.Join(append(errs, err)...)
}

// withoutOwner runs do where nobody but p has ip reserved, under host-local's locks:
// whoever is given it gets his rules afterwards.
func withoutOwner(ctx context.Context, p Past, ip netip.Addr, lock int, do func() error) (free bool, err error) {
	for _, dir := range slices.Compact(slices.Sorted(slices.Values(p.Stores))) { // locked twice, it would wait for itself
		unlock, err := lockStore(ctx, dir, lock)
		if errors.Is(err, os.ErrNotExist) {
			continue
		}
		if err != nil {
			return false, err
		}
		defer unlock()
		owner, err := ownerOf(filepath.Join(dir, ip.String()))
		if err != nil || owner != "" && owner != p.SandboxID {
			return false, err
		}
	}
	if err := do(); err != nil {
		return true, fmt.Errorf("rules for %s: %w", ip, err)
	}
	return true, nil
}
