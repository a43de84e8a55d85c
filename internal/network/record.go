package network

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/containernetworking/cni/libcni"
	"github.com/containernetworking/cni/pkg/utils"

	"github.com/mascri/mascri/internal/durable"
	"github.com/mascri/mascri/internal/pod"
)

// recordVersion is the form of record files that this build writes and reads.
const recordVersion = 1

// record is an attachment with all that CNI DEL needs. Records are values: one is
// replaced, never changed, once others can see it.
type record struct {
	Version int `json:"version"`
	pod.Attachment
	Config       json.RawMessage            `json:"config"` // a whole conflist, see inline
	IfName       string                     `json:"ifName"`
	Args         [][2]string                `json:"args"` // CNI_ARGS
	Capabilities map[string]json.RawMessage `json:"capabilities,omitempty"`
	BootID       string                     `json:"bootId"`
	Subnets      []netip.Prefix             `json:"subnets,omitempty"` // that the IPs are in
	Dirt         *dirt                      `json:"dirt,omitempty"`    // nil unless in phase Dirty

	// inherited is set where an earlier life of the daemon left the record
	// unfinished: its plugin may still run.
	inherited bool

	// In phase Dirty:
	retryAt  time.Time // when DEL is tried again
	retrying bool
}

// decodeRecord reads a record file. Whatever is in data, the record returned can
// be used for CNI DEL.
func decodeRecord(sandboxID string, data []byte) (record, error) {
	var rec record
	if err := durable.Unmarshal(data, recordVersion, &rec); err != nil {
		return record{}, err
	}
	rec.Version = recordVersion // which it has when it is written again
	switch {
	case rec.SandboxID != sandboxID:
		return record{}, fmt.Errorf("is that of sandbox %q", rec.SandboxID)
	case !slices.Contains([]pod.Phase{pod.Attaching, pod.Attached, pod.Detaching, pod.Dirty}, rec.Phase):
		return record{}, fmt.Errorf("unknown phase %q", rec.Phase)
	case rec.NetnsPath == "" || rec.NetnsInode == 0 && rec.Phase == pod.Attached || rec.BootID == "" || (rec.Dirt == nil) == (rec.Phase == pod.Dirty):
		return record{}, errors.New("incomplete")
	case filepath.Base(rec.NetnsPath) != pinName(sandboxID): // DEL by it would take another's interface away
		return record{}, fmt.Errorf("its network namespace %s is not the sandbox's own", rec.NetnsPath)
	}
	if err := utils.ValidateContainerID(rec.SandboxID); err != nil {
		return record{}, err
	}
	if err := utils.ValidateInterfaceName(rec.IfName); err != nil {
		return record{}, err
	}
	if err := utils.ValidateNetworkName(rec.Network); err != nil {
		return record{}, err
	}
	if _, err := rec.hostPorts(); err != nil {
		return record{}, err
	}
	list, err := rec.list()
	if err != nil {
		return record{}, err
	}
	if list.Name != rec.Network || len(list.Plugins) == 0 {
		return record{}, fmt.Errorf("its configuration is that of network %q, with %d plugins", list.Name, len(list.Plugins))
	}
	if rec.Result != nil {
		if err := checkResult(rec.Result); err != nil {
			return record{}, fmt.Errorf("result: %w", err)
		}
	}
	if rec.Phase == pod.Attached && (rec.Result == nil || len(rec.IPs) == 0) {
		return record{}, errors.New("attached, but without a result")
	}
	return rec, nil
}

// runtimeConf is what libcni is told beside the configuration.
func (rec record) runtimeConf(netnsPath string) *libcni.RuntimeConf {
	capabilities := make(map[string]any, len(rec.Capabilities))
	for name, value := range rec.Capabilities {
		capabilities[name] = value
	}
	return &libcni.RuntimeConf{
		ContainerID:    rec.SandboxID,
		NetNS:          netnsPath,
		IfName:         rec.IfName,
		Args:           rec.Args,
		CapabilityArgs: capabilities,
	}
}

// list is the recorded configuration.
func (rec record) list() (*libcni.NetworkConfigList, error) {
	list, err := libcni.NetworkConfFromBytes(rec.Config)
	if err != nil {
		return nil, fmt.Errorf("recorded configuration: %w", err)
	}
	return list, nil
}

// origin names a configuration for people.
func (rec record) origin() string { return origin(rec.Network, rec.ConfigFile) }

func (n *Network) recordDir() string { return filepath.Join(n.cfg.StateDir, "attachments") }

func recordFile(sandboxID string) string { return sandboxID + ".json" }

// save makes rec durable, and then visible.
func (n *Network) save(rec record) error {
	data, err := json.Marshal(rec)
	if err != nil {
		return fmt.Errorf("encode record: %w", err)
	}
	if err := durable.WriteFile(filepath.Join(n.recordDir(), recordFile(rec.SandboxID)), data); err != nil {
		return fmt.Errorf("write record: %w", err)
	}
	n.show(rec)
	return nil
}

// show makes rec visible to the readers of memory.
func (n *Network) show(rec record) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.records[rec.SandboxID] = rec
}

func (n *Network) record(sandboxID string) (record, bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	rec, ok := n.records[sandboxID]
	return rec, ok
}

// forget deletes a sandbox's record.
func (n *Network) forget(sandboxID string) error {
	if err := durable.Remove(filepath.Join(n.recordDir(), recordFile(sandboxID))); err != nil {
		return fmt.Errorf("delete record: %w", err)
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	delete(n.records, sandboxID)
	return nil
}

// loadRecords reads all records. A file that is not a record is moved to the
// quarantine directory beside it, so that it is neither lost nor in the way. One of a
// newer version is an error: without it, its pod would be taken for one that was never
// completed, and removed.
func (n *Network) loadRecords() error {
	if err := os.MkdirAll(n.recordDir(), 0o700); err != nil {
		return fmt.Errorf("make record directory: %w", err)
	}
	entries, err := os.ReadDir(n.recordDir())
	if err != nil {
		return fmt.Errorf("read records: %w", err)
	}
	for _, entry := range entries {
		path := filepath.Join(n.recordDir(), entry.Name())
		sandboxID, isRecord := strings.CutSuffix(entry.Name(), ".json")
		switch {
		case entry.IsDir():
		case strings.HasSuffix(entry.Name(), durable.TempSuffix):
			// A crash came before the rename: what it was to replace still holds.
			if err := os.Remove(path); err != nil {
				return fmt.Errorf("remove unfinished record: %w", err)
			}
		case isRecord:
			if err := n.loadRecord(sandboxID, path); err != nil {
				return err
			}
		}
	}
	return nil
}

func (n *Network) loadRecord(sandboxID, path string) error {
	var rec record
	data, err := os.ReadFile(path) // a bad disk must not keep the daemon from starting either
	if err == nil {
		rec, err = decodeRecord(sandboxID, data)
	}
	if err == nil {
		rec.inherited = rec.Phase != pod.Attached
		n.records[sandboxID] = rec
		return nil
	}
	if errors.Is(err, durable.ErrNewer) {
		return fmt.Errorf("attachment record %s: %w", path, err)
	}
	return n.quarantine(sandboxID, fmt.Errorf("damaged: %w", err))
}
