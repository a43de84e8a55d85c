// Package leaks finds what CNI plugins and crashes leave on a node of attachments that
// are over: addresses of host-local, pins, interfaces, rules and cache files. It looks
// only for what its caller knows to be his own: others may share the networks.
package leaks

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/mascri/mascri/internal/network/firewall"
	"github.com/mascri/mascri/internal/pod"
)

// Past is an attachment of which nothing should be left.
type Past struct {
	firewall.Owner
	Pin   string   // path of the pin that it had
	Links []string // interfaces of the node that its plugins told of
	// IPs are those of its addresses that no attachment has now, Stores the directories of
	// host-local that tell whether anybody else has.
	IPs    []netip.Addr
	Stores []string
}

// Present is an attachment that is complete.
type Present struct {
	firewall.Owner
	Reserved []string // files of host-local that must name it
}

// Scope is where to look.
type Scope struct {
	Past     []Past
	Present  []Present
	Stores   []string // directories of host-local for networks that are ours
	CacheDir string   // of libcni, nobody else's
}

// Leak is something that should not be, and can be mended.
type Leak struct {
	pod.Leak
	Link string // the interface's name, of a LeakLink
	mend func(context.Context) error
}

// Mend mends it, after another look under the locks that there are: what changed
// meanwhile is left alone.
func (l Leak) Mend(ctx context.Context) error { return l.mend(ctx) }

// Find reads, and changes nothing. With an error it returns what it found all the same.
func Find(ctx context.Context, scope Scope) ([]Leak, error) {
	past := map[string]Past{}
	var owners []firewall.Owner
	for _, p := range scope.Past {
		past[p.SandboxID] = p
		owners = append(owners, p.Owner)
	}
	var found []Leak
	var errs []error
	note := func(leaks []Leak, err error) { found, errs = append(found, leaks...), append(errs, err) }
	for _, dir := range scope.Stores {
		note(findReservations(ctx, dir, past, scope.Present))
	}
	note(findPins(scope.Past), nil)
	note(findLinks(scope.Past), nil)
	note(findRules(ctx, owners))
	note(findForwards(ctx, scope.Past))
	note(findCache(scope.CacheDir, past))
	slices.SortFunc(found, func(a, b Leak) int { return strings.Compare(string(a.Kind)+a.What, string(b.Kind)+b.What) })
	return found, errors.Join(errs...)
}

func leak(kind pod.LeakKind, owner firewall.Owner, what string, mend func(context.Context) error) Leak {
	return Leak{Leak: pod.Leak{Kind: kind, SandboxID: owner.SandboxID, Network: owner.Network, What: what}, mend: mend}
}

func findPins(past []Past) []Leak {
	var found []Leak
	for _, p := range past {
		if _, err := os.Lstat(p.Pin); err != nil {
			continue
		}
		found = append(found, leak(pod.LeakPin, p.Owner, p.Pin, func(context.Context) error {
			err := unix.Unmount(p.Pin, unix.MNT_DETACH|unix.UMOUNT_NOFOLLOW)
			if err != nil && !errors.Is(err, unix.EINVAL) && !errors.Is(err, unix.ENOENT) {
				return fmt.Errorf("unpin: %w", err)
			}
			if err := os.Remove(p.Pin); err != nil && !errors.Is(err, os.ErrNotExist) {
				return fmt.Errorf("unpin: %w", err)
			}
			return nil
		}))
	}
	return found
}

// findLinks looks for the host's ends of veth pairs. Most plugins name them by chance, so that
// a name tells whose it was; some by the pod, so that the next pod of that name has it again.
func findLinks(past []Past) []Leak {
	var found []Leak
	for _, p := range past {
		for _, name := range p.Links {
			if _, err := net.InterfaceByName(name); err != nil {
				continue
			}
			link, err := netlink.LinkByName(name)
			if err != nil || link.Type() != "veth" {
				continue // a bridge is for many
			}
			what := name
			if bridge, err := netlink.LinkByIndex(link.Attrs().MasterIndex); err == nil {
				what += ", a port of " + bridge.Attrs().Name
			}
			index := link.Attrs().Index
			l := leak(pod.LeakLink, p.Owner, what, func(context.Context) error {
				now, err := netlink.LinkByIndex(index)
				if errors.As(err, new(netlink.LinkNotFoundError)) || err == nil && now.Attrs().Name != name {
					return nil
				}
				if err == nil {
					err = netlink.LinkDel(now)
				}
				if err != nil {
					return fmt.Errorf("delete interface %s: %w", name, err)
				}
				return nil
			})
			l.Link = name
			found = append(found, l)
		}
	}
	return found
}

func findRules(ctx context.Context, owners []firewall.Owner) ([]Leak, error) {
	rules, err := firewall.FindPluginRules(ctx, owners)
	var found []Leak
	for _, r := range rules {
		found = append(found, leak(pod.LeakRules, r.Owner, r.Where, r.Remove))
	}
	return found, err
}

// findCache looks for libcni's files, <network>-<sandbox>-<interface>. All are ours, but
// only of an attachment that is known to be over may one go.
func findCache(dir string, past map[string]Past) ([]Leak, error) {
	entries, err := os.ReadDir(dir)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("read libcni's cache: %w", err)
	}
	var found []Leak
	for _, entry := range entries {
		parts := strings.Split(entry.Name(), "-")
		if len(parts) < 3 {
			continue
		}
		p, over := past[parts[len(parts)-2]]
		if !over {
			continue
		}
		file := filepath.Join(dir, entry.Name())
		found = append(found, leak(pod.LeakCache, p.Owner, file, func(context.Context) error {
			if err := os.Remove(file); err != nil && !errors.Is(err, os.ErrNotExist) {
				return fmt.Errorf("delete libcni's cache: %w", err)
			}
			return nil
		}))
	}
	return found, nil
}
