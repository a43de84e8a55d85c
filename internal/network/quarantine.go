package network

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/mascri/mascri/internal/durable"
	"github.com/mascri/mascri/internal/pod"
)

// quarantineDir is below the record directory.
func quarantineDir(recordDir string) string { return filepath.Join(recordDir, "quarantine") }

// reasonSuffix takes the place of a record's ".json" for the file that says why it is there.
const reasonSuffix = ".reason"

// quarantine moves a sandbox's record, if there is one, to the directory of those that
// nothing goes by, where it is neither lost nor in the way. why is kept beside it.
func (n *Network) quarantine(sandboxID string, why error) error {
	dir := quarantineDir(n.recordDir())
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("make quarantine directory: %w", err)
	}
	from, to := filepath.Join(n.recordDir(), recordFile(sandboxID)), filepath.Join(dir, recordFile(sandboxID))
	n.cfg.Logger.Error("an attachment record can't be used: moved aside", "sandbox", sandboxID, "file", to, "error", why)
	// Without care for a loss of power, which costs no more than the reason.
	if err := os.WriteFile(filepath.Join(dir, sandboxID+reasonSuffix), []byte(why.Error()+"\n"), 0o600); err != nil {
		n.cfg.Logger.Warn("the reason is known to this log alone", "sandbox", sandboxID, "error", err)
	}
	if err := os.Rename(from, to); err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("move record aside: %w", err)
	}
	if err := errors.Join(durable.SyncDir(dir), durable.SyncDir(n.recordDir())); err != nil {
		return fmt.Errorf("move record aside: %w", err)
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	delete(n.records, sandboxID)
	return nil
}

// noteQuarantine reads for Status what is in quarantine.
func (n *Network) noteQuarantine() {
	aside := readQuarantine(n.recordDir())
	n.aside.Store(&aside)
}

// readQuarantine lists the records in quarantine. What can't be read now is at the next try.
func readQuarantine(recordDir string) []pod.QuarantinedRecord {
	var aside []pod.QuarantinedRecord
	dir := quarantineDir(recordDir)
	entries, _ := os.ReadDir(dir)
	for _, entry := range entries {
		sandboxID, isRecord := strings.CutSuffix(entry.Name(), ".json")
		if !isRecord {
			continue
		}
		reason, err := os.ReadFile(filepath.Join(dir, sandboxID+reasonSuffix))
		if err != nil {
			reason = []byte("the daemon's log told why")
		}
		aside = append(aside, pod.QuarantinedRecord{File: filepath.Join(dir, entry.Name()), Reason: strings.TrimSpace(string(reason))})
	}
	return aside
}
