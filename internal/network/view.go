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

	"github.com/mascri/mascri/internal/pod"
)

// Record is an attachment as a daemon keeps it, to be looked at.
type Record struct {
	pod.Attachment
	Plugins      []string                   // of the chain it was attached by
	Pools        []pod.Pool                 // that its addresses may be from
	Links        []pod.Link                 // of the node
	Subnets      []netip.Prefix             // that its addresses are in
	Args         [][2]string                // CNI_ARGS
	Capabilities map[string]json.RawMessage // as the plugins were told
	Ports        []Port
	Gateways     []netip.Addr // of eth0, as the result has them
	Rebooted     bool         // it was made before the node's last start
}

// Port is a port of the node that leads to a pod.
type Port struct {
	HostIP        string `json:"hostIP,omitempty"` // "": any
	HostPort      int32  `json:"hostPort"`
	ContainerPort int32  `json:"containerPort"`
	Protocol      string `json:"protocol"` // tcp, udp, sctp
}

// Damaged is a record file that nothing goes by: it can't be read, or is in quarantine.
type Damaged struct {
	File string `json:"file"`
	Why  string `json:"why"`
}

// ReadRecords reads the attachment records in a daemon's state directory, in the order
// of their pods' names, with the daemon running or not. It changes nothing. A record
// that goes while it reads is not there; one that can't be used is among the damaged.
func ReadRecords(stateDir string) ([]Record, []Damaged, error) {
	bootID, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return nil, nil, fmt.Errorf("read boot id: %w", err)
	}
	cidrs, err := loadPodCIDRs(stateDir)
	if err != nil {
		return nil, nil, err
	}
	dir := filepath.Join(stateDir, "attachments")
	entries, err := os.ReadDir(dir)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, nil, fmt.Errorf("read records: %w", err)
	}
	var records []Record
	var damaged []Damaged
	for _, entry := range entries {
		sandboxID, isRecord := strings.CutSuffix(entry.Name(), ".json")
		if entry.IsDir() || !isRecord {
			continue
		}
		path := filepath.Join(dir, entry.Name())
		data, err := os.ReadFile(path)
		if errors.Is(err, os.ErrNotExist) {
			continue
		}
		var rec record
		if err == nil {
			rec, err = decodeRecord(sandboxID, data)
		}
		if err != nil {
			damaged = append(damaged, Damaged{path, err.Error()})
			continue
		}
		view, err := rec.view(cidrs, strings.TrimSpace(string(bootID)))
		if err != nil {
			damaged = append(damaged, Damaged{path, err.Error()})
			continue
		}
		records = append(records, view)
	}
	for _, q := range readQuarantine(dir) {
		damaged = append(damaged, Damaged{q.File, q.Reason})
	}
	slices.SortFunc(records, func(a, b Record) int { return strings.Compare(a.Pod+a.SandboxID, b.Pod+b.SandboxID) })
	return records, damaged, nil
}

func (rec record) view(cidrs []netip.Prefix, bootID string) (Record, error) {
	list, err := rec.list()
	if err != nil {
		return Record{}, err
	}
	view := Record{
		Attachment: rec.Attachment, Subnets: rec.Subnets, Args: rec.Args, Capabilities: rec.Capabilities,
		Pools: poolsOf(list, cidrs), Links: linksOf(list), Rebooted: rec.BootID != bootID,
	}
	for _, plugin := range list.Plugins {
		view.Plugins = append(view.Plugins, plugin.Network.Type)
	}
	var ports []portMapping
	if text := rec.Capabilities[capPortMappings]; text != nil {
		if err := json.Unmarshal(text, &ports); err != nil {
			return Record{}, fmt.Errorf("port mappings: %w", err)
		}
	}
	for _, p := range ports {
		view.Ports = append(view.Ports, Port{HostIP: p.HostIP, HostPort: p.HostPort, ContainerPort: p.ContainerPort, Protocol: p.Protocol})
	}
	if rec.Result != nil {
		view.Gateways = gateways(rec.Result)
	}
	return view, nil
}

// gateways are those that a result names for its addresses.
func gateways(data []byte) []netip.Addr {
	var result struct {
		IPs []struct {
			Gateway string `json:"gateway"`
		} `json:"ips"`
		IP4, IP6 struct { // spec up to 0.2.0
			Gateway string `json:"gateway"`
		}
	}
	if json.Unmarshal(data, &result) != nil {
		return nil // it was checked when the record was read
	}
	var all []netip.Addr
	add := func(text string) {
		if ip, err := netip.ParseAddr(text); err == nil && !slices.Contains(all, ip) {
			all = append(all, ip)
		}
	}
	for _, ip := range result.IPs {
		add(ip.Gateway)
	}
	add(result.IP4.Gateway)
	add(result.IP6.Gateway)
	return all
}

// resultDNS is what a result says of name resolution. A domain is one to search in, as
// resolv.conf(5) has it, where the result names no other.
func resultDNS(data []byte) pod.DNS {
	var result struct {
		DNS struct {
			Nameservers []string `json:"nameservers"`
			Domain      string   `json:"domain"`
			Search      []string `json:"search"`
			Options     []string `json:"options"`
		} `json:"dns"`
	}
	if json.Unmarshal(data, &result) != nil {
		return pod.DNS{} // of another form than the spec's: it is not needed for the pod's IP
	}
	dns := pod.DNS{Nameservers: result.DNS.Nameservers, Search: result.DNS.Search, Options: result.DNS.Options}
	if len(dns.Search) == 0 && result.DNS.Domain != "" {
		dns.Search = []string{result.DNS.Domain}
	}
	return dns
}
