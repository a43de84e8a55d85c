package firewall

import (
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"
)

// nfgenmsgSize is the size of the header that nfnetlink messages begin with.
const nfgenmsgSize = 4

// ruleGeneration returns a number that stays as long as no rule was changed; false
// where there is none: legacy rules are not counted, and a kernel may lack nf_tables.
func ruleGeneration() (uint32, bool) {
	for _, v6 := range []bool{false, true} {
		if inUse, err := (tool{v6: v6, legacy: true}).registered("filter"); err != nil || inUse {
			return 0, false
		}
	}
	generation, err := nftGeneration()
	return generation, err == nil
}

// nftGeneration returns the number that the kernel raises with each change of this
// network namespace's nftables rules, those of iptables-nft included: as long as it
// stays, so do the rules.
func nftGeneration() (uint32, error) {
	conn, err := netlink.Dial(unix.NETLINK_NETFILTER, nil)
	if err != nil {
		return 0, fmt.Errorf("open nftables: %w", err)
	}
	defer conn.Close()
	answer, err := conn.Execute(netlink.Message{
		Header: netlink.Header{Type: unix.NFNL_SUBSYS_NFTABLES<<8 | unix.NFT_MSG_GETGEN, Flags: netlink.Request},
		Data:   make([]byte, nfgenmsgSize), // any family, version 0
	})
	if err != nil {
		return 0, fmt.Errorf("ask for the nftables generation: %w", err)
	}
	if len(answer) != 1 || len(answer[0].Data) < nfgenmsgSize {
		return 0, fmt.Errorf("ask for the nftables generation: %d unexpected answers", len(answer))
	}
	attributes, err := netlink.NewAttributeDecoder(answer[0].Data[nfgenmsgSize:])
	if err != nil {
		return 0, fmt.Errorf("read the nftables generation: %w", err)
	}
	attributes.ByteOrder = binary.BigEndian
	for attributes.Next() {
		if attributes.Type() == unix.NFTA_GEN_ID {
			return attributes.Uint32(), attributes.Err()
		}
	}
	return 0, errors.Join(errors.New("the nftables generation is missing in the kernel's answer"), attributes.Err())
}
