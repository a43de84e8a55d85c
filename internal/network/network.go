package network

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/containernetworking/cni/libcni"
	"github.com/containernetworking/cni/pkg/invoke"

	"github.com/mascri/mascri/internal/keylock"
	"github.com/mascri/mascri/internal/pod"
)

// Config says where things are. All paths are absolute.
type Config struct {
	ConfigDir string         // CNI configurations, such as /etc/cni/net.d; may be absent
	BinDirs   []string       // CNI plugins, in the order of search
	StateDir  string         // records, libcni's cache and runtime.json, such as /var/lib/mascri
	NetnsDir  string         // pins, such as /run/netns; must not outlive a reboot
	Default   DefaultNetwork // nil: there is none
	// DefaultOff keeps new sandboxes off the default network. Those of an earlier life
	// may still be on it.
	DefaultOff bool
	Forward    Forwarder
	Logger     *slog.Logger

	// Step is called at each step, for tests that end the process there: record, pin,
	// add-start, add-done and complete in Attach; detaching, del-start, del-done and
	// unpin in Detach. A plugin runs during add-start and del-start, which come once
	// for each plugin. nil outside of tests.
	Step func(name string)

	// Ran is told of each run of a plugin: its name, the CNI verb, how long it took, and
	// what kind of failure it was, "" for none. nil: nobody is told.
	Ran func(plugin, verb string, took time.Duration, failure string)
	// FoundLeak is told of each leftover when it is first seen; nil: nobody is told.
	FoundLeak func(pod.LeakKind)
}

// DefaultNetwork is the network that MasCRI brings for a node without any
// configuration of its own.
type DefaultNetwork interface {
	// Conflist is the network's CNI configuration list. A free subnet is chosen at
	// the first call, and stays.
	Conflist(ctx context.Context) ([]byte, error)
	// Ensure puts bridge and masquerade rules in place. It is idempotent and cheap.
	Ensure(ctx context.Context) error
	// Remove takes back what Ensure did, also in an earlier process. No sandbox may be
	// on the network. The next Conflist may name other subnets.
	Remove(ctx context.Context) error
}

// Forwarder lets traffic of attached subnets pass where the node would drop it.
type Forwarder interface {
	// Ensure accepts subnets as well as those of earlier calls. It is quick where
	// they were accepted a moment ago.
	Ensure(ctx context.Context, subnets []netip.Prefix) pod.Forwarding
	// Verify looks at the rules and mends them. subnets are all that are in use:
	// others may be given up.
	Verify(ctx context.Context, subnets []netip.Prefix) pod.Forwarding
}

// Network attaches sandboxes. See the package's documentation for concurrency.
type Network struct {
	cfg    Config
	bootID string
	locks  keylock.Locks // by sandbox id
	// Chains of ADD and of DEL have slots of their own: DELs that hang must not
	// keep pods from starting.
	adds, dels  slots
	retries     slots         // those of the dirty queue, which may all hang
	delTimeout  time.Duration // as the constants of the same names: tests have less time
	rescanEvery time.Duration
	retryFirst  time.Duration
	chosen      chan struct{} // holds a token while the plugins of another network are to be asked
	dirtied     chan struct{} // holds a token while the dirty queue has something new

	looks      atomic.Uint64
	snap       atomic.Pointer[snapshot]
	forwarding atomic.Pointer[pod.Forwarding]
	verdict    atomic.Pointer[verdict]
	leaks      atomic.Pointer[[]pod.Leak] // that could not be mended
	aside      atomic.Pointer[[]pod.QuarantinedRecord]
	ledger     *ledger
	defaultNet defaultUse

	cidrFile sync.Mutex // orders the writes of runtime.json

	mu      sync.Mutex // guards all following fields
	records map[string]record
	cidrs   []netip.Prefix
}

// New reads the records, the pod CIDRs and the configuration, and makes the state
// directories where they are missing. It starts nothing.
func New(cfg Config) (*Network, error) {
	bootID, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return nil, fmt.Errorf("read boot id: %w", err)
	}
	width := 2 * runtime.NumCPU()
	n := &Network{
		cfg:         cfg,
		bootID:      strings.TrimSpace(string(bootID)),
		adds:        make(slots, width),
		dels:        make(slots, width),
		defaultNet:  defaultUse{turn: make(slots, 1)},
		retries:     make(slots, retriesMost),
		delTimeout:  delTimeout,
		rescanEvery: rescanEvery,
		retryFirst:  retryFirst,
		chosen:      make(chan struct{}, 1),
		dirtied:     make(chan struct{}, 1),
		records:     map[string]record{},
	}
	if err := n.loadRecords(); err != nil {
		return nil, err
	}
	if n.ledger, err = loadLedger(cfg.StateDir); err != nil {
		return nil, err
	}
	n.noteMissing()
	if err := n.quarantineRivals(); err != nil {
		return nil, err
	}
	n.noteQuarantine()
	if n.cidrs, err = loadPodCIDRs(cfg.StateDir); err != nil {
		return nil, err
	}
	// The default network may have to ask an engine that is not there yet: it is
	// asked again by Run and Attach.
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	n.look(ctx)
	return n, nil
}

// Attachment returns a sandbox's attachment in any phase but Dirty: what is left then is
// the sandbox's no more, see Status. Memory only.
func (n *Network) Attachment(sandboxID string) (pod.Attachment, bool) {
	rec, ok := n.record(sandboxID)
	if !ok || rec.Phase == pod.Dirty {
		return pod.Attachment{}, false
	}
	return rec.Attachment, true
}

// Attachments returns all attachments in any phase but Dirty, in the order of their
// sandboxes' ids. Memory only.
func (n *Network) Attachments() []pod.Attachment {
	n.mu.Lock()
	defer n.mu.Unlock()
	all := make([]pod.Attachment, 0, len(n.records))
	for _, rec := range n.records {
		if rec.Phase != pod.Dirty {
			all = append(all, rec.Attachment)
		}
	}
	slices.SortFunc(all, func(a, b pod.Attachment) int { return strings.Compare(a.SandboxID, b.SandboxID) })
	return all
}

// cni returns libcni with a cache directory of its own, as its GC verb would take
// what others have in a shared one for leaked.
func (n *Network) cni(exec invoke.Exec) *libcni.CNIConfig {
	return libcni.NewCNIConfigWithCacheDir(n.cfg.BinDirs, filepath.Join(n.cfg.StateDir, "cni"), exec)
}

// plain drops what libcni wraps around a plugin's error: the same once more.
func plain(err error) error {
	var failed *pluginError
	if errors.As(err, &failed) {
		return failed
	}
	return err
}

func (n *Network) step(name string) {
	if n.cfg.Step != nil {
		n.cfg.Step(name)
	}
}
