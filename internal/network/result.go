package network

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"slices"

	"github.com/containernetworking/cni/pkg/types"
)

// ifName is the interface that a pod is known by; only its addresses are the pod's.
const ifName = "eth0"

// result is as much of a CNI result as decides where a pod is, in every version
// of the spec. libcni's own types would do, but for some input their conversion
// between versions panics.
type result struct {
	Interfaces []*resultInterface `json:"interfaces"`
	IPs        []*resultIP        `json:"ips"`
	Routes     []*struct{}        `json:"routes"`
	IP4        *resultOldIP       `json:"ip4"` // spec up to 0.2.0
	IP6        *resultOldIP       `json:"ip6"`
}

type resultInterface struct {
	Name    string `json:"name"`
	Sandbox string `json:"sandbox"` // netns path; "" for an interface of the node
}

type resultIP struct {
	Interface *int   `json:"interface"` // index; nil where the plugin did not say
	Address   string `json:"address"`   // with prefix length
}

type resultOldIP struct {
	IP string `json:"ip"`
}

// checkResult tells whether data, printed by any plugin of a chain, is a result
// that libcni and the next plugin can take. It need not have an address yet.
func checkResult(data []byte) error {
	_, err := decodeResult(data)
	return err
}

func decodeResult(data []byte) (result, error) {
	var r *result
	switch err := json.Unmarshal(data, &r); {
	case len(data) == 0:
		return result{}, errors.New("printed no result")
	case err != nil:
		return result{}, fmt.Errorf("printed %s instead of a result: %w", quote(data), err)
	case r == nil:
		return result{}, errors.New("printed null instead of a result")
	case slices.Contains(r.Interfaces, nil) || slices.Contains(r.IPs, nil) || slices.Contains(r.Routes, nil):
		return result{}, errors.New("printed a result with a null among interfaces, ips or routes")
	}
	for _, ip := range r.IPs {
		if i := ip.Interface; i != nil && (*i < 0 || *i >= len(r.Interfaces)) {
			return result{}, fmt.Errorf("printed a result whose address %q is on interface %d of %d", ip.Address, *i, len(r.Interfaces))
		}
	}
	return *r, nil
}

// podAddresses returns the addresses of eth0 in the network namespace that is
// mounted at netns, with their prefix lengths: IPv4 first, else in the plugins'
// order. There is at least one.
func podAddresses(data []byte, netns string) ([]netip.Prefix, error) {
	r, err := decodeResult(data)
	if err != nil {
		return nil, err
	}
	var addresses []netip.Prefix
	for _, text := range r.addresses(netns) {
		address, err := netip.ParsePrefix(text)
		if err != nil {
			return nil, fmt.Errorf("the result has a bad address: %w", err)
		}
		if address.Addr().Is4In6() {
			address = netip.PrefixFrom(address.Addr().Unmap(), address.Bits()-96)
		}
		if !address.IsValid() {
			return nil, fmt.Errorf("the result has a bad address: %q", text)
		}
		addresses = append(addresses, address)
	}
	if len(addresses) == 0 {
		return nil, fmt.Errorf("the plugins succeeded, but gave %s of the sandbox no address", ifName)
	}
	slices.SortStableFunc(addresses, func(a, b netip.Prefix) int {
		return a.Addr().BitLen() - b.Addr().BitLen()
	})
	return addresses, nil
}

// addresses returns what r says of eth0. An address that names no interface is
// eth0's: it is the one that the plugins were asked for.
func (r result) addresses(netns string) []string {
	var texts []string
	for _, ip := range r.IPs {
		if ip.Interface == nil || r.Interfaces[*ip.Interface].isPods(netns) {
			texts = append(texts, ip.Address)
		}
	}
	for _, old := range []*resultOldIP{r.IP4, r.IP6} {
		if old != nil && old.IP != "" {
			texts = append(texts, old.IP)
		}
	}
	return texts
}

func (i resultInterface) isPods(netns string) bool {
	if i.Name != ifName || i.Sandbox == "" {
		return false
	}
	if i.Sandbox == netns {
		return true
	}
	ours, err := os.Stat(netns)
	if err != nil {
		return false
	}
	theirs, err := os.Stat(i.Sandbox) // the same namespace by another path
	return err == nil && os.SameFile(ours, theirs)
}

// encodeResult is the JSON form of a result in the version of its network.
func encodeResult(res types.Result) ([]byte, error) {
	if res == nil {
		return nil, errors.New("the network has no plugins")
	}
	data, err := json.Marshal(res)
	if err != nil {
		return nil, fmt.Errorf("encode result: %w", err)
	}
	return data, nil
}
