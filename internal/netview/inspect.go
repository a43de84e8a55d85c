package netview

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/mascri/mascri/internal/netns"
	"github.com/mascri/mascri/internal/network"
	"github.com/mascri/mascri/internal/pod"
	"github.com/mascri/mascri/internal/rtnetlink"
)

// Detail is all that is known of a pod's place on the network.
type Detail struct {
	ID           string                     `json:"id"`
	Pod          string                     `json:"pod"`
	Phase        pod.Phase                  `json:"phase"`
	Network      string                     `json:"network"`
	ConfigFile   string                     `json:"configFile"`
	CreatedAt    time.Time                  `json:"createdAt"`
	IPs          []netip.Addr               `json:"ips"`
	NetnsPath    string                     `json:"netnsPath"`
	NetnsInode   uint64                     `json:"netnsInode"`
	Problem      string                     `json:"problem,omitempty"` // why the kernel's part is missing
	Interfaces   []Interface                `json:"interfaces"`
	Routes       []Route                    `json:"routes"`
	ResolvConf   string                     `json:"resolvConf"` // file; "": it is not known
	Resolv       []string                   `json:"resolv"`     // its lines
	Ports        []network.Port             `json:"ports"`
	Args         [][2]string                `json:"args"`
	Capabilities map[string]json.RawMessage `json:"capabilities,omitempty"`
	Plugins      []string                   `json:"plugins"`
	Runs         []pod.PluginRun            `json:"runs"`
	Result       json.RawMessage            `json:"result,omitempty"`
}

// Route is one of a pod's routes in its main table.
type Route struct {
	Destination netip.Prefix `json:"destination"`
	Gateway     netip.Addr   `json:"gateway,omitzero"`
	Link        string       `json:"link"`
	Source      netip.Addr   `json:"source,omitzero"`
	Priority    int          `json:"priority,omitempty"`
}

// Inspect looks at one pod. The error is ErrNotFound where there is none of that name,
// and ErrInvalidArgument where there are several.
func Inspect(stateDir, name string) (Detail, error) {
	rec, err := lookUp(stateDir, name)
	if err != nil {
		return Detail{}, err
	}
	links, err := hostLinks()
	if err != nil {
		return Detail{}, err
	}
	d := Detail{
		ID: rec.SandboxID, Pod: rec.Pod, Phase: rec.Phase, Network: rec.Network, ConfigFile: rec.ConfigFile,
		CreatedAt: rec.CreatedAt, IPs: rec.IPs, NetnsPath: rec.NetnsPath, NetnsInode: rec.NetnsInode,
		Interfaces: []Interface{}, Routes: []Route{}, Resolv: []string{}, Ports: rec.Ports, Args: rec.Args,
		Capabilities: rec.Capabilities, Plugins: rec.Plugins, Runs: rec.Runs, Result: rec.Result,
	}
	d.Interfaces, d.Problem = podInterfaces(rec, links)
	if d.Problem == "" {
		if d.Routes, err = podRoutes(rec.NetnsPath, d.Interfaces); err != nil {
			d.Problem = err.Error()
		}
	}
	d.ResolvConf, d.Resolv = resolvConf(stateDir, rec)
	return d, nil
}

// lookUp finds the one record that name means.
func lookUp(stateDir, name string) (network.Record, error) {
	records, _, err := network.ReadRecords(stateDir)
	if err != nil {
		return network.Record{}, err
	}
	return find(records, name)
}

func podRoutes(path string, interfaces []Interface) ([]Route, error) {
	var all []netlink.Route
	err := netns.At(path, func() error {
		handle, err := netlink.NewHandle(unix.NETLINK_ROUTE)
		if err != nil {
			return err
		}
		defer handle.Close()
		all, err = rtnetlink.Dump(func() ([]netlink.Route, error) { return handle.RouteList(nil, netlink.FAMILY_ALL) })
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("list routes: %w", err)
	}
	routes := make([]Route, 0, len(all))
	for _, r := range all {
		route := Route{Priority: r.Priority}
		if dst, ok := rtnetlink.Prefix(r.Dst); ok {
			route.Destination = dst
		} else {
			route.Destination = everything(r.Family)
		}
		if gateway, ok := netip.AddrFromSlice(r.Gw); ok {
			route.Gateway = gateway.Unmap()
		}
		if source, ok := netip.AddrFromSlice(r.Src); ok {
			route.Source = source.Unmap()
		}
		for _, i := range interfaces {
			if i.index == r.LinkIndex {
				route.Link = i.Name
			}
		}
		routes = append(routes, route)
	}
	return routes, nil
}

// everything is where a default route leads.
func everything(family int) netip.Prefix {
	if family == netlink.FAMILY_V6 {
		return netip.PrefixFrom(netip.IPv6Unspecified(), 0)
	}
	return netip.PrefixFrom(netip.IPv4Unspecified(), 0)
}

// resolvConf finds the file that the sandbox's containers have as /etc/resolv.conf: it
// is in a directory of any name, beside the hosts file that has the pod's addresses.
func resolvConf(stateDir string, rec network.Record) (file string, lines []string) {
	lines = []string{}
	hosts, err := filepath.Glob(filepath.Join(stateDir, "sandboxes", "*", "hosts"))
	if err != nil || len(rec.IPs) == 0 {
		return "", lines
	}
	for _, path := range hosts {
		text, err := os.ReadFile(path)
		if err != nil || !strings.Contains("\n"+string(text), "\n"+rec.IPs[0].String()+"\t") {
			continue
		}
		file = filepath.Join(filepath.Dir(path), "resolv.conf")
		resolv, err := os.ReadFile(file)
		if err != nil {
			return "", lines
		}
		for line := range strings.Lines(string(resolv)) {
			lines = append(lines, strings.TrimSpace(line))
		}
		return file, lines
	}
	return "", lines
}
