package network

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"strings"

	"github.com/containerd/errdefs"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/mascri/mascri/internal/pod"
)

// The capabilities that this runtime can fill, see CNI's CONVENTIONS.md.
const (
	capPortMappings = "portMappings"
	capBandwidth    = "bandwidth"
	capIPRanges     = "ipRanges"
	capDNS          = "dns"
	capCgroupPath   = "cgroupPath"
	capAnnotations  = "io.kubernetes.cri.pod-annotations"
)

type portMapping struct {
	HostPort      int32  `json:"hostPort"`
	ContainerPort int32  `json:"containerPort"`
	Protocol      string `json:"protocol"`
	HostIP        string `json:"hostIP,omitempty"`
}

type ipRange struct {
	Subnet netip.Prefix `json:"subnet"`
}

type dnsServers struct {
	Servers  []string `json:"servers,omitempty"`
	Searches []string `json:"searches,omitempty"`
	Options  []string `json:"options,omitempty"`
}

// capabilities returns what the plugins of net are to be told of req, by
// capability: only what one of them declares. It is ErrFailedPrecondition that a
// pod asks for host ports or a bandwidth that no plugin would see to.
func capabilities(net *network, req pod.AttachRequest, podCIDRs []netip.Prefix) (map[string]json.RawMessage, error) {
	ports, err := portMappings(req.PortMappings)
	if err != nil {
		return nil, err
	}
	limits, err := bandwidthOf(req.Annotations)
	if err != nil {
		return nil, err
	}
	if len(ports) > 0 && !net.declares(capPortMappings) {
		return nil, undeclared("host ports", net, capPortMappings, "portmap")
	}
	if limits != nil && !net.declares(capBandwidth) {
		return nil, undeclared("a bandwidth limit", net, capBandwidth, "bandwidth")
	}
	filled := filler{net: net, values: map[string]json.RawMessage{}}
	filled.put(capPortMappings, ports, len(ports) > 0)
	filled.put(capBandwidth, limits, limits != nil)
	filled.put(capIPRanges, ipRanges(podCIDRs), len(podCIDRs) > 0)
	filled.put(capDNS, dnsServers{req.DNS.GetServers(), req.DNS.GetSearches(), req.DNS.GetOptions()}, req.DNS != nil)
	filled.put(capCgroupPath, req.CgroupParent, req.CgroupParent != "")
	filled.put(capAnnotations, req.Annotations, len(req.Annotations) > 0)
	return filled.values, filled.err
}

func undeclared(what string, net *network, capability, plugin string) error {
	return fmt.Errorf(`the pod asks for %s, but no plugin of %s declares the capability %q: add {"type": %q, "capabilities": {%q: true}} to its plugins: %w`,
		what, origin(net.list.Name, net.file), capability, plugin, capability, errdefs.ErrFailedPrecondition)
}

type filler struct {
	net    *network
	values map[string]json.RawMessage
	err    error // the first
}

func (f *filler) put(capability string, value any, given bool) {
	if !given || f.err != nil || !f.net.declares(capability) {
		return
	}
	data, err := json.Marshal(value)
	if err != nil {
		f.err = fmt.Errorf("encode capability %s: %w", capability, err)
		return
	}
	f.values[capability] = data
}

// portMappings leaves out what asks for no port of the node.
func portMappings(asked []*cri.PortMapping) ([]portMapping, error) {
	var ports []portMapping
	for _, m := range asked {
		if m.GetHostPort() <= 0 {
			continue
		}
		if m.GetHostPort() > 65535 || m.GetContainerPort() < 1 || m.GetContainerPort() > 65535 {
			return nil, fmt.Errorf("port mapping %d to %d: not ports: %w", m.GetHostPort(), m.GetContainerPort(), errdefs.ErrInvalidArgument)
		}
		if _, err := netip.ParseAddr(m.GetHostIp()); m.GetHostIp() != "" && err != nil {
			return nil, fmt.Errorf("port mapping %d to %d: host IP: %w: %w", m.GetHostPort(), m.GetContainerPort(), err, errdefs.ErrInvalidArgument)
		}
		ports = append(ports, portMapping{
			HostPort:      m.GetHostPort(),
			ContainerPort: m.GetContainerPort(),
			Protocol:      strings.ToLower(m.GetProtocol().String()),
			HostIP:        m.GetHostIp(),
		})
	}
	return ports, nil
}

// ipRanges groups the pod CIDRs by family: IPAM gives one address per group.
func ipRanges(cidrs []netip.Prefix) [][]ipRange {
	var v4, v6 []ipRange
	for _, cidr := range cidrs {
		if cidr.Addr().Is4() {
			v4 = append(v4, ipRange{cidr})
		} else {
			v6 = append(v6, ipRange{cidr})
		}
	}
	var groups [][]ipRange
	for _, group := range [][]ipRange{v4, v6} {
		if group != nil {
			groups = append(groups, group)
		}
	}
	return groups
}
