package firewall

import (
	"context"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"time"

	"golang.org/x/sync/semaphore"

	"github.com/mascri/mascri/internal/pod"
)

// graceTime is how long a subnet that Ensure was asked for is kept although Verify's
// caller does not know it: that one may have looked just before.
const graceTime = time.Minute

// Forward accepts the forwarded packets of pod subnets where Docker has set the
// policy of FORWARD to DROP. The rules stand in one chain of this daemon's own,
// reached from DOCKER-USER in the same iptables flavour, for only there an accept is
// final. Where Docker does not drop, it changes nothing.
//
// It may be used by many goroutines; rules are read and written by one at a time.
type Forward struct {
	chain string
	turn  *semaphore.Weighted // one slot; held to read and write the rules, and the following fields
	asked map[netip.Prefix]time.Time
	last  verdict
}

// verdict is what was found when the rules were last looked at.
type verdict struct {
	state      pod.Forwarding
	subnets    []netip.Prefix // that it speaks of
	generation uint32         // of nftables, before the look
	standing   []string       // before the look
}

// NewForward returns a Forward whose rules stand in the iptables chain of the given
// name, of up to 28 bytes. Two daemons on one host need different ones.
func NewForward(chain string) *Forward {
	return &Forward{chain: chain, turn: semaphore.NewWeighted(1), asked: map[netip.Prefix]time.Time{}}
}

// Ensure accepts subnets as well as those of earlier calls. It looks at the rules each
// time, which takes some milliseconds, except where nftables tells that none of them was
// changed since they were last found right. The first call replaces what an earlier
// process has left, so it should name every subnet in use.
func (f *Forward) Ensure(ctx context.Context, subnets []netip.Prefix) pod.Forwarding {
	return f.settle(ctx, subnets, time.Time{})
}

// Verify does the same with all the subnets in use: others are given up, a minute after
// they were last asked for.
func (f *Forward) Verify(ctx context.Context, subnets []netip.Prefix) pod.Forwarding {
	return f.settle(ctx, subnets, time.Now().Add(-graceTime))
}

// settle makes the rules stand for subnets and what else was asked for since.
func (f *Forward) settle(ctx context.Context, subnets []netip.Prefix, since time.Time) pod.Forwarding {
	if err := f.turn.Acquire(ctx, 1); err != nil {
		return pod.Forwarding{Message: fmt.Sprintf("accept pod subnets: %v", err)}
	}
	defer f.turn.Release(1)
	now := time.Now()
	for _, s := range subnets {
		f.asked[s.Masked()] = now // as iptables-save prints it
	}
	maps.DeleteFunc(f.asked, func(_ netip.Prefix, asked time.Time) bool { return asked.Before(since) })
	all := slices.SortedFunc(maps.Keys(f.asked), netip.Prefix.Compare)

	generation, counted := ruleGeneration()
	var stands []string
	if counted {
		right := f.last.state.OK && slices.Equal(f.last.subnets, all)
		if right && f.last.generation == generation {
			return f.last.state
		}
		// Plugins change rules for each pod, but hardly ever these.
		var err error
		if stands, err = standing(f.chain); err != nil {
			stands = nil // and look
		}
		if right && stands != nil && slices.Equal(f.last.standing, stands) {
			f.last.generation = generation
			return f.last.state
		}
	}
	var found findings
	for _, v6 := range []bool{false, true} {
		f.settleFamily(ctx, v6, rulesFor(all, v6), &found)
	}
	// If this has written rules, they are past what was read above, and the next call
	// looks once more.
	f.last = verdict{found.state(), all, generation, stands}
	return f.last.state
}

// settleFamily makes the rules of one IP family stand; without any, the chain goes.
func (f *Forward) settleFamily(ctx context.Context, v6 bool, rules []string, found *findings) {
	seen, err := inspect(ctx, v6, f.chain)
	if err != nil {
		found.problem("%v", err)
		return
	}
	own := ownedChain{table: "filter", name: f.chain, rules: rules,
		jumps: []jump{{"FORWARD", dockerUser}, {dockerUser, f.chain}}}
	if len(rules) == 0 {
		for _, c := range seen.chains {
			if c.own {
				found.failure(c.tool, c.tool.remove(ctx, own))
			}
		}
		return
	}
	if seen.dockerNFT {
		found.problem("%s", dockerNFTProblem(v6))
	}
	for _, c := range seen.chains {
		switch {
		case !c.drops:
		case !c.dockerUser:
			found.problem("the policy of FORWARD is DROP in %s, and not by Docker, which has no chain %s there: "+
				"accept the pod subnets in the firewall that drops, or restart Docker if its chains were flushed", c.tool, dockerUser)
		default:
			found.failure(c.tool, c.tool.ensure(ctx, own))
			found.placed = append(found.placed, c.tool.String())
		}
	}
}

// rulesFor returns the rules that accept the subnets of one IP family.
func rulesFor(subnets []netip.Prefix, v6 bool) []string {
	var rules []string
	for _, s := range subnets {
		if s.Addr().Is6() == v6 {
			rules = append(rules, "-s "+s.String()+" -j ACCEPT", "-d "+s.String()+" -j ACCEPT")
		}
	}
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

// failure notes err, if it is one.
func (f *findings) failure(t tool, err error) {
	if err != nil {
		f.problem("rules of %s: %v", t, err)
	}
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
