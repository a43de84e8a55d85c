package network

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"sync"

	"github.com/mascri/mascri/internal/durable"
)

// ledgerFile holds, a line each, what attachments there have been: other runtimes may
// share networks, and nothing else tells whose a leftover is once its record is gone.
const ledgerFile = "ledger"

// ledgerMost is how many attachments are remembered; twice as many at most are in the file.
const ledgerMost = 5000

// entry is what the ledger knows of an attachment.
type entry struct {
	SandboxID string       `json:"sandboxId"`
	Network   string       `json:"network"`
	Stores    []string     `json:"stores,omitempty"` // host-local's directories
	Links     []string     `json:"links,omitempty"`  // interfaces of the node, as the result tells
	IPs       []netip.Addr `json:"ips,omitempty"`
}

// ledger is safe for concurrent use. A line that a crash tears is one leftover that is
// not known to be ours: nothing is ever synced.
type ledger struct {
	path string

	writing sync.Mutex // guards the file and the following two fields
	lines   int        // in the file
	torn    bool       // the file ends within a line

	mu      sync.Mutex // guards all following fields
	entries map[string]entry
	order   []string // sandbox ids, the oldest first
}

// loadLedger reads the ledger but for its oldest entries.
func loadLedger(stateDir string) (*ledger, error) {
	l := &ledger{path: filepath.Join(stateDir, ledgerFile), entries: map[string]entry{}}
	data, err := os.ReadFile(l.path)
	if errors.Is(err, os.ErrNotExist) {
		return l, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read ledger: %w", err)
	}
	lines := bufio.NewScanner(bytes.NewReader(data))
	lines.Buffer(nil, maxOutput)
	for lines.Scan() {
		var e entry
		if json.Unmarshal(lines.Bytes(), &e) == nil && wholeID.MatchString(e.SandboxID) {
			l.put(e)
		}
		l.lines++
	}
	l.torn = len(data) > 0 && data[len(data)-1] != '\n'
	return l, nil
}

// compact writes the file anew; l.writing is held.
func (l *ledger) compact() error {
	var text []byte
	all := l.all()
	for _, e := range all {
		line, err := json.Marshal(e)
		if err != nil {
			return fmt.Errorf("encode ledger: %w", err)
		}
		text = append(append(text, line...), '\n')
	}
	if err := durable.WriteFile(l.path, text); err != nil {
		return fmt.Errorf("write ledger: %w", err)
	}
	l.lines, l.torn = len(all), false
	return nil
}

// append adds a line to the file; l.writing is held.
func (l *ledger) append(line []byte) error {
	line = append(line, '\n')
	if l.torn {
		line = append([]byte{'\n'}, line...)
	}
	file, err := os.OpenFile(l.path, os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
	if err != nil {
		return fmt.Errorf("write ledger: %w", err)
	}
	_, err = file.Write(line)
	l.torn = err != nil // or it was all, and an empty line does no harm
	l.lines++
	if err = errors.Join(err, file.Close()); err != nil {
		return fmt.Errorf("write ledger: %w", err)
	}
	return nil
}

// put notes e in memory.
func (l *ledger) put(e entry) {
	if _, known := l.entries[e.SandboxID]; !known {
		l.order = append(l.order, e.SandboxID)
	}
	l.entries[e.SandboxID] = e
	if len(l.order) > ledgerMost {
		delete(l.entries, l.order[0])
		l.order = slices.Delete(l.order, 0, 1)
	}
}

// note adds rec, whose record must be on disk already: who reads the ledger first and the
// records then never takes an attachment for one that is over.
func (l *ledger) note(rec record) error {
	e := entry{SandboxID: rec.SandboxID, Network: rec.Network, Links: hostLinks(rec.Result), IPs: rec.IPs}
	list, err := rec.list()
	if err != nil {
		return err
	}
	e.Stores = storesOf(list)
	line, err := json.Marshal(e)
	if err != nil {
		return fmt.Errorf("encode ledger: %w", err)
	}
	l.mu.Lock()
	l.put(e)
	l.mu.Unlock()
	l.writing.Lock()
	defer l.writing.Unlock()
	if l.lines >= 2*ledgerMost {
		return l.compact() // with e
	}
	return l.append(line)
}

// noteMissing notes the records that a crash came before the ledger with.
func (n *Network) noteMissing() {
	for id, rec := range n.records {
		if _, known := n.ledger.entries[id]; !known {
			n.enterLedger(rec)
		}
	}
}

// enterLedger goes on without the ledger: a full disk costs no pod.
func (n *Network) enterLedger(rec record) {
	if err := n.ledger.note(rec); err != nil {
		n.cfg.Logger.Warn("what may be left of this attachment later won't be known as ours", "sandbox", rec.SandboxID, "error", err)
	}
}

func (l *ledger) knows(sandboxID string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	_, known := l.entries[sandboxID]
	return known
}

// all returns the entries, the oldest first.
func (l *ledger) all() []entry {
	l.mu.Lock()
	defer l.mu.Unlock()
	all := make([]entry, 0, len(l.order))
	for _, id := range l.order {
		all = append(all, l.entries[id])
	}
	return all
}

// hostLinks are the interfaces of the node that a result names.
func hostLinks(data []byte) []string {
	r, err := decodeResult(data)
	if err != nil {
		return nil // ADD did not end
	}
	var links []string
	for _, i := range r.Interfaces {
		if i.Sandbox == "" && i.Name != "" {
			links = append(links, i.Name)
		}
	}
	return links
}
