package network

import (
	"encoding/json"
	"math"
	"net/netip"
	"os"
	"path/filepath"

	"github.com/containernetworking/cni/libcni"

	"github.com/mascri/mascri/internal/pod"
)

// hostLocalDir is where the plugin host-local keeps its reservations unless told
// otherwise, in a directory for each network.
const hostLocalDir = "/var/lib/cni/networks"

// addressRange is a range as host-local is configured with.
type addressRange struct {
	Subnet     string     `json:"subnet"`
	RangeStart netip.Addr `json:"rangeStart"`
	RangeEnd   netip.Addr `json:"rangeEnd"`
	Gateway    netip.Addr `json:"gateway"`
}

// hostLocal is the IPAM part of a plugin's configuration, as far as host-local reads it.
type hostLocal struct {
	IPAM struct {
		Type    string `json:"type"`
		DataDir string `json:"dataDir"`
		addressRange
		Ranges [][]addressRange `json:"ranges"`
	} `json:"ipam"`
}

// awaitsPodCIDR tells whether a plugin of list has no addresses but those of the node's pod
// CIDR: host-local without any can neither add a pod nor, where it was asked to, remove it.
func awaitsPodCIDR(list *libcni.NetworkConfigList) bool {
	for _, plugin := range list.Plugins {
		var conf hostLocal
		if !plugin.Network.Capabilities[capIPRanges] || json.Unmarshal(plugin.Bytes, &conf) != nil {
			continue
		}
		if conf.IPAM.Type == "host-local" && conf.IPAM.Subnet == "" && len(conf.IPAM.Ranges) == 0 {
			return true
		}
	}
	return false
}

// poolsOf returns the ranges that list takes addresses from: those of its
// configuration and, where it wants them, those that the runtime gives.
func poolsOf(list *libcni.NetworkConfigList, podCIDRs []netip.Prefix) []pod.Pool {
	var pools []pod.Pool
	for _, plugin := range list.Plugins {
		var conf hostLocal
		if json.Unmarshal(plugin.Bytes, &conf) != nil || conf.IPAM.Type != "host-local" {
			continue
		}
		ranges := []addressRange{conf.IPAM.addressRange}
		for _, set := range conf.IPAM.Ranges {
			ranges = append(ranges, set...)
		}
		if plugin.Network.Capabilities[capIPRanges] {
			for _, cidr := range podCIDRs {
				ranges = append(ranges, addressRange{Subnet: cidr.String()})
			}
		}
		dir := conf.IPAM.DataDir
		if dir == "" {
			dir = hostLocalDir
		}
		for _, r := range ranges {
			if pool, ok := r.pool(); ok {
				pool.Dir = filepath.Join(dir, list.Name)
				pools = append(pools, pool)
			}
		}
	}
	return pools
}

// pool fills in what host-local does where the configuration does not say.
func (r addressRange) pool() (pod.Pool, bool) {
	subnet, err := netip.ParsePrefix(r.Subnet)
	if err != nil || subnet.IsSingleIP() {
		return pod.Pool{}, false
	}
	subnet = subnet.Masked()
	pool := pod.Pool{Subnet: subnet, First: r.RangeStart, Last: r.RangeEnd, Gateway: r.Gateway}
	if !pool.Gateway.IsValid() {
		pool.Gateway = subnet.Addr().Next()
	}
	if !pool.First.IsValid() {
		pool.First = subnet.Addr().Next()
	}
	if !pool.Last.IsValid() {
		pool.Last = lastOf(subnet)
		if subnet.Addr().Is4() {
			pool.Last = pool.Last.Prev() // not the broadcast address
		}
	}
	return pool, true
}

func lastOf(subnet netip.Prefix) netip.Addr {
	bytes := subnet.Addr().AsSlice()
	for bit := subnet.Bits(); bit < len(bytes)*8; bit++ {
		bytes[bit/8] |= 0x80 >> (bit % 8)
	}
	last, _ := netip.AddrFromSlice(bytes) // as many bytes as there were
	return last
}

// Occupancy counts the addresses of pool that are reserved, by pods and by what is
// left of some, and those that are free. Of more than 2^64 addresses, 2^64 are counted.
// It reads the directory only, and takes no lock: it is a glance.
func Occupancy(pool pod.Pool) (used, free uint64, err error) {
	entries, err := os.ReadDir(pool.Dir)
	if err != nil && !os.IsNotExist(err) {
		return 0, 0, err
	}
	for _, entry := range entries {
		if ip, err := netip.ParseAddr(entry.Name()); err == nil && within(pool, ip) {
			used++
		}
	}
	total := size(pool)
	if within(pool, pool.Gateway) && total < math.MaxUint64 {
		total--
	}
	return used, total - min(used, total), nil
}

func within(pool pod.Pool, ip netip.Addr) bool {
	return ip.BitLen() == pool.First.BitLen() && pool.First.Compare(ip) <= 0 && ip.Compare(pool.Last) <= 0
}

// size is the number of addresses from First to Last, math.MaxUint64 at most.
func size(pool pod.Pool) uint64 {
	first, last := pool.First.As16(), pool.Last.As16()
	var high, low, borrow uint64
	for i := 15; i >= 0; i-- {
		difference := uint64(last[i]) - uint64(first[i]) - borrow
		borrow = difference >> 63
		if i >= 8 {
			low |= (difference & 0xff) << (8 * (15 - i))
		} else {
			high |= (difference & 0xff) << (8 * (7 - i))
		}
	}
	switch {
	case borrow != 0: // the range is empty
		return 0
	case high > 0 || low == math.MaxUint64:
		return math.MaxUint64
	}
	return low + 1
}

// linksOf returns the interfaces of the node that the plugins of list connect pods by.
func linksOf(list *libcni.NetworkConfigList) []pod.Link {
	var links []pod.Link
	for _, plugin := range list.Plugins {
		var conf struct {
			Bridge string `json:"bridge"`
			Master string `json:"master"`
			MTU    int    `json:"mtu"`
		}
		if json.Unmarshal(plugin.Bytes, &conf) != nil {
			continue // its keys mean something else
		}
		link := pod.Link{Plugin: plugin.Network.Type, MTU: conf.MTU}
		switch plugin.Network.Type {
		case "bridge":
			link.Name = conf.Bridge
			if link.Name == "" {
				link.Name = "cni0" // as the plugin calls it
			}
		case "macvlan", "ipvlan", "vlan":
			link.Name = conf.Master
		}
		if link.Name != "" {
			links = append(links, link)
		}
	}
	return links
}
