package netview

import (
	"context"
	"net/netip"
	"slices"

	"github.com/mascri/mascri/internal/network"
	"github.com/mascri/mascri/internal/pod"
)

// Sources are where a look is taken.
type Sources struct {
	StateDir string // of the daemon
	// Network tells what the next pod would be attached to.
	Network func(context.Context) (pod.NetworkStatus, error)
}

// Node is a node's pod network.
type Node struct {
	Networks []Network         `json:"networks"`
	Pods     []Pod             `json:"pods"`
	Uplinks  []Link            `json:"uplinks"` // by which packets leave the node
	Damaged  []network.Damaged `json:"damaged,omitempty"`
	// Problem is why no pod can be attached now; "": one can.
	Problem string `json:"problem,omitempty"`
}

// Network is a CNI network that pods are on, or will be.
type Network struct {
	Name    string   `json:"name"`
	File    string   `json:"file"` // "" for the embedded default network
	Next    bool     `json:"next"` // the next pod is attached to it
	Plugins []string `json:"plugins"`
	Pools   []Pool   `json:"pools"` // where its IPAM is host-local
	Links   []Link   `json:"links"`
	Pods    int      `json:"pods"`
}

// Pool is a range of addresses, and how full it is.
type Pool struct {
	pod.Pool
	Used  uint64 `json:"used"`
	Free  uint64 `json:"free"` // 2^64-1 at most
	Error string `json:"error,omitempty"`
}

// Link is an interface of the node that pods are connected by.
type Link struct {
	Name      string         `json:"name"`
	Kind      string         `json:"kind"` // such as bridge; "": it is not there
	MTU       int            `json:"mtu"`
	Up        bool           `json:"up"`
	Addresses []netip.Prefix `json:"addresses"`
	Ports     int            `json:"ports"` // of a bridge
}

// Pod is a sandbox's place on the network.
type Pod struct {
	ID         string         `json:"id"`
	Pod        string         `json:"pod"` // namespace/name
	Phase      pod.Phase      `json:"phase"`
	Network    string         `json:"network"`
	ConfigFile string         `json:"configFile"`
	IPs        []netip.Addr   `json:"ips"`
	MAC        string         `json:"mac"`
	Kind       string         `json:"kind"` // of eth0, such as veth
	Host       HostSide       `json:"host"`
	Ports      []network.Port `json:"ports,omitempty"`
	Received   Traffic        `json:"received"` // by eth0, since it was made
	Sent       Traffic        `json:"sent"`
	Problem    string         `json:"problem,omitempty"` // why the kernel's part is missing
}

// HostSide is what a pod's interface is connected to on the node.
type HostSide struct {
	Link   string `json:"link"`             // a veth's other end, or the parent of a macvlan or the like
	Bridge string `json:"bridge,omitempty"` // that the link is a port of
}

// Traffic counts what passed an interface in one direction.
type Traffic struct {
	Packets uint64 `json:"packets"`
	Bytes   uint64 `json:"bytes"`
	Errors  uint64 `json:"errors"`
	Dropped uint64 `json:"dropped"`
}

// Look takes a look at the whole node.
func Look(ctx context.Context, sources Sources) (Node, error) {
	records, damaged, err := network.ReadRecords(sources.StateDir)
	if err != nil {
		return Node{}, err
	}
	links, err := hostLinks()
	if err != nil {
		return Node{}, err
	}
	node := Node{Networks: []Network{}, Pods: []Pod{}, Uplinks: uplinks(links), Damaged: damaged}
	next, err := sources.Network(ctx)
	switch {
	case err != nil:
		node.Problem = err.Error()
	case !next.Ready:
		node.Problem = next.Message
	}
	for _, rec := range records {
		node.Pods = append(node.Pods, lookAt(rec, links))
		net := node.network(rec.Network, rec.ConfigFile, rec.Plugins)
		net.Pods++
		net.add(rec.Pools, rec.Links, links)
	}
	if err == nil && next.Network != "" {
		var plugins []string
		for _, plugin := range next.Plugins {
			if !plugin.IPAM {
				plugins = append(plugins, plugin.Type)
			}
		}
		net := node.network(next.Network, next.ConfigFile, plugins)
		net.Next, net.Plugins = true, plugins
		net.add(next.Pools, next.Links, links)
	}
	return node, nil
}

// network returns the one of that name and file, which is added where it is new. The
// pointer is good until the next call.
func (n *Node) network(name, file string, plugins []string) *Network {
	i := slices.IndexFunc(n.Networks, func(net Network) bool { return net.Name == name && net.File == file })
	if i < 0 {
		i = len(n.Networks)
		n.Networks = append(n.Networks, Network{Name: name, File: file, Plugins: plugins, Pools: []Pool{}, Links: []Link{}})
	}
	return &n.Networks[i]
}

// add adds pools and links that are new: pods of one network may have been attached by
// different contents of its file.
func (n *Network) add(pools []pod.Pool, names []pod.Link, links []hostLink) {
	for _, pool := range pools {
		if slices.ContainsFunc(n.Pools, func(p Pool) bool { return p.Pool == pool }) {
			continue
		}
		p := Pool{Pool: pool}
		var err error
		if p.Used, p.Free, err = network.Occupancy(pool); err != nil {
			p.Error = err.Error()
		}
		n.Pools = append(n.Pools, p)
	}
	for _, name := range names {
		if slices.ContainsFunc(n.Links, func(l Link) bool { return l.Name == name.Name }) {
			continue
		}
		link := Link{Name: name.Name, Addresses: []netip.Prefix{}}
		if i := slices.IndexFunc(links, func(l hostLink) bool { return l.Name == name.Name }); i >= 0 {
			link = links[i].Link
		}
		n.Links = append(n.Links, link)
	}
}

// lookAt takes a look at one pod.
func lookAt(rec network.Record, links []hostLink) Pod {
	p := Pod{
		ID: rec.SandboxID, Pod: rec.Pod, Phase: rec.Phase, Network: rec.Network, ConfigFile: rec.ConfigFile,
		IPs: rec.IPs, Ports: rec.Ports,
	}
	interfaces, problem := podInterfaces(rec, links)
	p.Problem = problem
	for _, i := range interfaces {
		if i.Name == podInterface {
			p.MAC, p.Kind, p.Host, p.Received, p.Sent = i.MAC, i.Kind, i.Host, i.Received, i.Sent
		}
	}
	return p
}
