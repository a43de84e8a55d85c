package cri_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/mascri/mascri/internal/engine/enginetest"
	"github.com/mascri/mascri/internal/pod"
)

// fakeNetwork keeps attachments in memory. It does what the real one promises the
// handlers: an attach that fails cleans up after itself, unless that fails as well;
// what is left is an attachment in phase Detaching.
type fakeNetwork struct {
	engine *enginetest.Fake

	mu          sync.Mutex // guards all following fields
	attachments map[string]pod.Attachment
	requests    []pod.AttachRequest
	next        byte
	early       uint64 // inode of the network namespace of what does not run yet
	failAttach  error
	failDetach  error
	hold        chan struct{} // Attach waits for it, or for the context
	holding     chan struct{} // closed when Attach waits
	status      pod.NetworkStatus
	cidrs       []netip.Prefix
	mended      [][]string // sandboxes that MendLeaks was told, by call
}

func newFakeNetwork(engine *enginetest.Fake) *fakeNetwork {
	return &fakeNetwork{engine: engine, attachments: map[string]pod.Attachment{}, status: pod.NetworkStatus{Ready: true, Network: "fake"}}
}

func (n *fakeNetwork) Attach(ctx context.Context, req pod.AttachRequest) (pod.Attachment, error) {
	if err := req.Confirm(ctx); err != nil {
		return pod.Attachment{}, err
	}
	sandbox, err := n.engine.Inspect(ctx, req.SandboxID)
	if err != nil {
		return pod.Attachment{}, err
	}
	n.mu.Lock()
	if !sandbox.Running {
		sandbox.NetnsInode = n.early
	}
	hold, holding := n.hold, n.holding
	n.hold = nil
	n.requests = append(n.requests, req)
	n.mu.Unlock()
	if hold != nil {
		close(holding)
		select {
		case <-hold:
		case <-ctx.Done():
			return pod.Attachment{}, ctx.Err()
		}
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	n.next++
	a := pod.Attachment{
		SandboxID: req.SandboxID, Pod: req.Namespace + "/" + req.Name, Phase: pod.Attached, Network: "fake",
		NetnsPath: "/run/netns/cni-" + req.SandboxID[:32], NetnsInode: sandbox.NetnsInode,
		IPs:    []netip.Addr{netip.AddrFrom4([4]byte{10, 88, 0, 1 + n.next}), netip.MustParseAddr(fmt.Sprintf("fd00::%d", n.next))},
		Result: json.RawMessage(`{}`),
	}
	if n.failAttach != nil {
		err := n.failAttach
		if n.failDetach != nil {
			a.Phase, a.Result = pod.Detaching, nil
			n.attachments[a.SandboxID] = a
			err = errors.Join(err, n.failDetach)
		}
		return pod.Attachment{}, err
	}
	n.attachments[a.SandboxID] = a
	return a, nil
}

func (n *fakeNetwork) Detach(ctx context.Context, id string, ended func() error) error {
	n.mu.Lock()
	a, ok := n.attachments[id]
	if ok {
		a.Phase = pod.Detaching
		n.attachments[id] = a
	}
	err := errors.Join(ctx.Err(), n.failDetach)
	n.mu.Unlock()
	if ended != nil {
		err = errors.Join(ended(), err)
	}
	if !ok || err != nil {
		return err
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	delete(n.attachments, id)
	return nil
}

func (n *fakeNetwork) asked() int {
	n.mu.Lock()
	defer n.mu.Unlock()
	return len(n.requests)
}

func (n *fakeNetwork) Attachment(id string) (pod.Attachment, bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	a, ok := n.attachments[id]
	return a, ok
}

func (n *fakeNetwork) Attachments() []pod.Attachment {
	n.mu.Lock()
	defer n.mu.Unlock()
	var list []pod.Attachment
	for _, a := range n.attachments {
		list = append(list, a)
	}
	return list
}

func (n *fakeNetwork) Status() pod.NetworkStatus {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.status
}

func (n *fakeNetwork) MendLeaks(_ context.Context, sandboxes []string) ([]pod.Leak, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.mended = append(n.mended, sandboxes)
	return nil, nil
}

func (n *fakeNetwork) SetPodCIDRs(cidrs []netip.Prefix) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.cidrs = cidrs
	return nil
}

// set changes the fake under its lock.
func (n *fakeNetwork) set(f func(*fakeNetwork)) {
	n.mu.Lock()
	defer n.mu.Unlock()
	f(n)
}

// put makes an attachment of an earlier life, which was complete once unless its phase
// is Attaching.
func (n *fakeNetwork) put(id string, phase pod.Phase, inode uint64) {
	a := pod.Attachment{SandboxID: id, Phase: phase, NetnsInode: inode, Network: "fake"}
	if phase != pod.Attaching {
		a.Result = json.RawMessage(`{}`)
	}
	n.set(func(n *fakeNetwork) { n.attachments[id] = a })
}

// holdAttach makes the next Attach wait; waiting is closed once it does.
func (n *fakeNetwork) holdAttach(t *testing.T) (waiting <-chan struct{}, release func()) {
	t.Helper()
	hold, holding := make(chan struct{}), make(chan struct{})
	n.set(func(n *fakeNetwork) { n.hold, n.holding = hold, holding })
	return holding, func() { close(hold) }
}

// String prints what is attached, a line each.
func (n *fakeNetwork) String() string {
	n.mu.Lock()
	defer n.mu.Unlock()
	var lines []string
	for id, a := range n.attachments {
		lines = append(lines, fmt.Sprintf("%s %s\n", id, a.Phase))
	}
	slices.Sort(lines)
	return strings.Join(lines, "")
}
