package defaultnet

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"os"

	"github.com/mascri/mascri/internal/durable"
)

// StateVersion is the form of the state file that this build writes and reads.
const StateVersion = 1

// choice is what is chosen once and kept in the state file.
type choice struct {
	IPv4 netip.Prefix `json:"ipv4"`
	IPv6 netip.Prefix `json:"ipv6,omitzero"` // zero: the kernel had no IPv6 so far
}

// stateFile is the JSON form.
type stateFile struct {
	Version int `json:"version"`
	choice
}

// errCorrupt tells of a state file that can't be used.
var errCorrupt = errors.New("not a state file of the default network")

// readChoice returns the zero choice where there is no file, and errCorrupt where
// its content is of no use.
func readChoice(file string) (choice, error) {
	text, err := os.ReadFile(file)
	if errors.Is(err, os.ErrNotExist) {
		return choice{}, nil
	}
	if err != nil {
		return choice{}, fmt.Errorf("read state of the default network: %w", err)
	}
	var state stateFile
	if err := durable.Unmarshal(text, StateVersion, &state); errors.Is(err, durable.ErrNewer) {
		return choice{}, fmt.Errorf("%s: %w", file, err)
	} else if err != nil {
		return choice{}, fmt.Errorf("%w: %w", errCorrupt, err)
	}
	c := state.choice
	if !validIPv4(c.IPv4) || c.IPv6.IsValid() && !validIPv6(c.IPv6) {
		return choice{}, fmt.Errorf("%w: subnets %s and %s", errCorrupt, c.IPv4, c.IPv6)
	}
	return c, nil
}

// writeChoice replaces the file; after a crash there is the old or the new one.
func writeChoice(file string, c choice) (err error) {
	defer func() {
		if err != nil {
			err = fmt.Errorf("write state of the default network: %w", err)
		}
	}()
	text, err := json.Marshal(stateFile{StateVersion, c})
	if err != nil {
		return err
	}
	return durable.WriteFile(file, append(text, '\n'))
}

// validIPv4 tells whether p can be a subnet of pods: host-local needs at least two
// bits of host, and no one routes more than a /8.
func validIPv4(p netip.Prefix) bool {
	return p.IsValid() && p.Addr().Is4() && p.Bits() >= 8 && p.Bits() <= 28 && p == p.Masked()
}

func validIPv6(p netip.Prefix) bool {
	return p.IsValid() && p.Addr().Is6() && p.Bits() == 64 && p == p.Masked()
}
