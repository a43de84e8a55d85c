package firewall

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/sync/semaphore"

	"github.com/mascri/mascri/internal/pod"
)

const (
	// freshFor is how long Ensure trusts the last look at the rules: shorter than
	// the interval at which Verify is called, long enough for a burst of pods.
	freshFor = 5 * time.Second
	// graceTime is how long a subnet that was asked for is kept although Verify's
	// caller does not know it (yet).
	graceTime = time.Minute
)

// Forward accepts the forwarded packets of pod subnets where Docker has set the
// policy of FORWARD to DROP. The rules stand in one chain of this daemon's own,
// reached from DOCKER-USER in the same iptables flavour, for only there an accept is
// final. Where Docker does not drop, it changes nothing.
//
// It may be used by many goroutines; rules are read and written by one at a time.
type Forward struct {
	chain string
	turn  *semaphore.Weighted // held to read and write the rules; one slot

	mu     sync.Mutex // guards all following fields
	wanted map[netip.Prefix]time.Time
	done   map[netip.Prefix]bool // the subnets that state speaks of
	state  pod.Forwarding
	at     time.Time // when state was found
}

// NewForward returns a Forward whose rules stand in the iptables chain of the given
// name, of up to 28 bytes. Two daemons on one host need different ones.
func NewForward(chain string) *Forward {
	return &Forward{chain: chain, turn: semaphore.NewWeighted(1), wanted: map[netip.Prefix]time.Time{}}
}

// Ensure accepts subnets as well as those of earlier calls. It is made for the start
// of a pod: nothing is read or written if the subnets were found accepted less than
// five seconds ago. The first call replaces what an earlier process has left, so it
// should name every subnet in use.
func (f *Forward) Ensure(ctx context.Context, subnets []netip.Prefix) pod.Forwarding {
	f.ask(subnets, time.Now())
	if state, ok := f.known(subnets); ok {
		return state
	}
	if err := f.turn.Acquire(ctx, 1); err != nil {
		return failed(err)
	}
	defer f.turn.Release(1)
	// While this one waited, another may have done it all.
	if state, ok := f.known(subnets); ok {
		return state
	}
	return f.settle(ctx)
}

// Verify looks at the rules now and writes them anew where something is missing, as
// after a flush or a restart of the engine. attached are the subnets in use: others
// are given up, a minute after Ensure was last asked for them.
func (f *Forward) Verify(ctx context.Context, attached []netip.Prefix) pod.Forwarding {
	now := time.Now()
	f.ask(attached, now)
	f.forget(now.Add(-graceTime))
	if err := f.turn.Acquire(ctx, 1); err != nil {
		return failed(err)
	}
	defer f.turn.Release(1)
	return f.settle(ctx)
}

// Remove deletes the chain and the jumps to it, in every flavour, and forgets all
// subnets.
func (f *Forward) Remove(ctx context.Context) error {
	if err := f.turn.Acquire(ctx, 1); err != nil {
		return fmt.Errorf("remove chain %s: %w", f.chain, err)
	}
	defer f.turn.Release(1)
	f.mu.Lock()
	clear(f.wanted)
	f.done = nil
	f.mu.Unlock()

	var errs []error
	for _, v6 := range []bool{false, true} {
		seen, err := inspect(ctx, v6)
		errs = append(errs, err)
		for _, c := range seen.chains {
			errs = append(errs, f.removeFrom(ctx, c.tool))
		}
	}
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("remove chain %s: %w", f.chain, err)
	}
	return nil
}

func (f *Forward) removeFrom(ctx context.Context, t tool) error {
	have, err := t.save(ctx, "filter")
	if err != nil {
		return err
	}
	script := ownedChain{table: "filter", name: f.chain}.removal(have)
	if script == "" {
		return nil
	}
	return t.restore(ctx, script)
}

// ask notes that subnets are wanted as of now.
func (f *Forward) ask(subnets []netip.Prefix, now time.Time) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, s := range subnets {
		f.wanted[s.Masked()] = now
	}
}

// forget gives up the subnets that nobody has asked for since.
func (f *Forward) forget(since time.Time) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for s, asked := range f.wanted {
		if asked.Before(since) {
			delete(f.wanted, s)
		}
	}
}

// known returns the last state if it was good, is fresh and speaks of all subnets.
func (f *Forward) known(subnets []netip.Prefix) (pod.Forwarding, bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if !f.state.OK || time.Since(f.at) > freshFor {
		return pod.Forwarding{}, false
	}
	for _, s := range subnets {
		if !f.done[s.Masked()] {
			return pod.Forwarding{}, false
		}
	}
	return f.state, true
}

// settle makes the rules stand for all wanted subnets; the caller has the turn.
func (f *Forward) settle(ctx context.Context) pod.Forwarding {
	f.mu.Lock()
	done := map[netip.Prefix]bool{}
	for s := range f.wanted {
		done[s] = true
	}
	f.mu.Unlock()

	var found findings
	for _, v6 := range []bool{false, true} {
		f.settleFamily(ctx, v6, rulesFor(done, v6), &found)
	}
	state := found.state()

	f.mu.Lock()
	defer f.mu.Unlock()
	f.done, f.state, f.at = done, state, time.Now()
	return state
}

// settleFamily makes the rules stand for one IP family.
func (f *Forward) settleFamily(ctx context.Context, v6 bool, rules []string, found *findings) {
	if len(rules) == 0 {
		return
	}
	seen, err := inspect(ctx, v6)
	if err != nil {
		found.problem("%v", err)
		return
	}
	if seen.dockerNFT {
		found.problem("%s", dockerNFTProblem(v6))
	}
	for _, c := range seen.chains {
		if !c.drops {
			continue
		}
		if !c.dockerUser {
			found.problem("the policy of FORWARD is DROP in %s, and not by Docker, which has no chain %s there: "+
				"accept the pod subnets in the firewall that drops, or restart Docker if its chains were flushed", c.tool, dockerUser)
			continue
		}
		own := ownedChain{table: "filter", name: f.chain, rules: rules,
			jumps: []jump{{"FORWARD", dockerUser}, {dockerUser, f.chain}}}
		if err := c.tool.ensure(ctx, own); err != nil {
			found.problem("accept pod subnets in %s: %v", c.tool, err)
			continue
		}
		found.placed = append(found.placed, c.tool.String())
	}
}

// rulesFor returns the rules that accept the subnets of one IP family, in a stable order.
func rulesFor(subnets map[netip.Prefix]bool, v6 bool) []string {
	var rules []string
	for s := range subnets {
		if s.Addr().Is6() == v6 {
			rules = append(rules, "-s "+s.String()+" -j ACCEPT", "-d "+s.String()+" -j ACCEPT")
		}
	}
	slices.Sort(rules)
	return rules
}

// dockerNFTProblem tells what to do about a drop that no rule elsewhere can undo.
// Docker makes it only where it had to enable forwarding itself.
func dockerNFTProblem(v6 bool) string {
	family, sysctl := "ip", "net.ipv4.ip_forward"
	if v6 {
		family, sysctl = "ip6", "net.ipv6.conf.all.forwarding"
	}
	return fmt.Sprintf("Docker's nftables backend drops what is forwarded (table %s %s, policy drop), and an accept elsewhere "+
		`cannot undo that: set %s=1 in /etc/sysctl.d, or "ip-forward-no-drop": true in /etc/docker/daemon.json, and restart Docker`,
		family, dockerBridges, sysctl)
}

// findings collects what was done and what is wrong.
type findings struct {
	placed   []string // the flavours that hold our rules
	problems []string
}

func (f *findings) problem(format string, args ...any) {
	f.problems = append(f.problems, fmt.Sprintf(format, args...))
}

func (f *findings) state() pod.Forwarding {
	switch {
	case len(f.problems) > 0:
		return pod.Forwarding{Message: strings.Join(f.problems, "; ")}
	case len(f.placed) > 0:
		return pod.Forwarding{OK: true, Message: dockerUser + " (" + strings.Join(f.placed, ", ") + ")"}
	default:
		return pod.Forwarding{OK: true, Message: "not needed"}
	}
}

func failed(err error) pod.Forwarding {
	return pod.Forwarding{Message: fmt.Sprintf("accept pod subnets: %v", err)}
}
