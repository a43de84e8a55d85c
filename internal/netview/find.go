package netview

import (
	"fmt"
	"strings"

	"github.com/containerd/errdefs"

	"github.com/mascri/mascri/internal/network"
)

// find returns the record that name means: a sandbox's id, the beginning of one, or
// namespace/name of a pod. The error is ErrNotFound, or ErrInvalidArgument where it
// means several.
func find(records []network.Record, name string) (network.Record, error) {
	var found []network.Record
	for _, rec := range records {
		if rec.SandboxID == name {
			return rec, nil
		}
		if name != "" && (rec.Pod == name || strings.HasPrefix(rec.SandboxID, name)) {
			found = append(found, rec)
		}
	}
	switch len(found) {
	case 1:
		return found[0], nil
	case 0:
		return network.Record{}, fmt.Errorf("no pod %q is on a network; see mascri net ls: %w", name, errdefs.ErrNotFound)
	}
	var ids []string
	for _, rec := range found {
		ids = append(ids, short(rec.SandboxID)+" ("+rec.Pod+")")
	}
	return network.Record{}, fmt.Errorf("%q could be any of %s: %w", name, strings.Join(ids, ", "), errdefs.ErrInvalidArgument)
}

// short is an id as Docker shows it.
func short(id string) string { return id[:min(12, len(id))] }
