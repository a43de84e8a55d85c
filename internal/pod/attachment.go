package pod

import (
	"context"
	"encoding/json"
	"net/netip"
	"time"

	cri "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// Phase is how far an attachment has come.
type Phase string

// The phases in their order. A record is written in phase Attaching before CNI
// ADD, and stays in phase Detaching until CNI DEL succeeded. One in phase Dirty has
// no sandbox to belong to any more: CNI DEL kept failing, and is tried again in the
// background until it succeeds.
const (
	Attaching Phase = "attaching"
	Attached  Phase = "attached"
	Detaching Phase = "detaching"
	Dirty     Phase = "dirty"
)

// Attachment is a sandbox's place on its CNI network.
type Attachment struct {
	SandboxID string `json:"sandboxId"`
	// Pod is namespace/name, for people.
	Pod        string       `json:"pod"`
	Phase      Phase        `json:"phase"`
	Network    string       `json:"network"`    // name of the CNI network
	ConfigFile string       `json:"configFile"` // "" for the embedded default network
	NetnsPath  string       `json:"netnsPath"`  // the pin, /run/netns/cni-...
	NetnsInode uint64       `json:"netnsInode"`
	IPs        []netip.Addr `json:"ips"` // of eth0 only, primary first
	CreatedAt  time.Time    `json:"createdAt"`
	// Result is the final CNI result as the last plugin printed it, nil until Attached.
	Result json.RawMessage `json:"result,omitempty"`
	// Runs are the plugins of the chain as ADD ran them, in their order.
	Runs []PluginRun `json:"runs,omitempty"`
	DNS  DNS         `json:"dns,omitzero"` // as Result has it
}

// PluginRun is one run of a CNI plugin, with that of the IPAM plugin that it calls.
type PluginRun struct {
	Plugin       string  `json:"plugin"`
	Milliseconds float64 `json:"milliseconds"`
}

// DNS is what a CNI result says of name resolution.
type DNS struct {
	Nameservers []string `json:"nameservers,omitempty"`
	Search      []string `json:"search,omitempty"`
	Options     []string `json:"options,omitempty"`
}

// IsZero tells whether d says nothing.
func (d DNS) IsZero() bool { return len(d.Nameservers)+len(d.Search)+len(d.Options) == 0 }

// Pool is a range of addresses that the plugin host-local gives to pods.
type Pool struct {
	Subnet  netip.Prefix `json:"subnet"`
	First   netip.Addr   `json:"first"`
	Last    netip.Addr   `json:"last"`
	Gateway netip.Addr   `json:"gateway"` // never given to a pod
	Dir     string       `json:"dir"`     // a file for each address in use
}

// AttachRequest is what a sandbox's attachment is made from.
type AttachRequest struct {
	SandboxID string
	Namespace string // of the pod; CNI_ARGS K8S_POD_NAMESPACE
	Name      string // of the pod; CNI_ARGS K8S_POD_NAME
	UID       string // of the pod; CNI_ARGS K8S_POD_UID

	// PID is the sandbox process in the host's pid namespace. Confirm is asked
	// after the network namespace of PID was opened: nil means that the sandbox
	// still runs as PID, so that the opened namespace really is the sandbox's and
	// not that of a process which took over the number.
	PID     int
	Confirm func(ctx context.Context) error

	PortMappings []*cri.PortMapping
	Annotations  map[string]string // of the pod; bandwidth limits are read from them
	CgroupParent string            // as in the CRI request; capability cgroupPath
	DNS          *cri.DNSConfig    // capability dns
	Sysctls      map[string]string // of the pod, set already; what they say of IPv6 stays
}

// RequestOf is what a sandbox's config asks of the network. PID and Confirm are for
// the caller to set.
func RequestOf(sandboxID string, config *cri.PodSandboxConfig) AttachRequest {
	return AttachRequest{
		SandboxID:    sandboxID,
		Namespace:    config.GetMetadata().GetNamespace(),
		Name:         config.GetMetadata().GetName(),
		UID:          config.GetMetadata().GetUid(),
		PortMappings: config.GetPortMappings(),
		Annotations:  config.GetAnnotations(),
		CgroupParent: config.GetLinux().GetCgroupParent(),
		DNS:          config.GetDnsConfig(),
		Sysctls:      config.GetLinux().GetSysctls(),
	}
}

// NetworkStatus is the answer to "can a pod be attached now", from memory.
type NetworkStatus struct {
	Ready   bool   `json:"ready"`
	Reason  string `json:"reason"`  // brief CamelCase, "" when ready
	Message string `json:"message"` // what is wrong, in which file, and how to mend it
	// Network and ConfigFile name what the next pod will be attached to.
	Network        string   `json:"network"`
	ConfigFile     string   `json:"configFile"`     // "" when DefaultNetwork or none
	DefaultNetwork bool     `json:"defaultNetwork"` // the embedded default network is used
	Plugins        []Plugin `json:"plugins"`
	Subnets        []string `json:"subnets"`         // of the chosen config, where its IPAM names them
	Pools          []Pool   `json:"pools,omitempty"` // of the chosen config, where its IPAM is host-local
	Links          []Link   `json:"links,omitempty"` // that the chosen config makes or uses
	CNIVersion     string   `json:"cniVersion"`      // of the chosen config
	// Passed lists every config file that was not chosen and why, in lexical order.
	Passed    []PassedConfig `json:"passed,omitempty"`
	ConfigDir string         `json:"configDir"`
	BinDirs   []string       `json:"binDirs"`
	PodCIDRs  []string       `json:"podCIDRs,omitempty"`
	// Forwarding tells how traffic of attached subnets gets past a FORWARD policy of
	// DROP: "DOCKER-USER (iptables-nft)", "not needed", or what to set where MasCRI can't.
	Forwarding Forwarding `json:"forwarding"`
	// Dirty are the attachments that CNI DEL could not undo so far, the oldest first.
	Dirty []DirtyAttachment `json:"dirty,omitempty"`
	// Leaks are the leftovers that could not be mended when last looked for.
	Leaks []Leak `json:"leaks,omitempty"`
	// Quarantined are the records that were set aside, in the order of their files.
	Quarantined []QuarantinedRecord `json:"quarantined,omitempty"`
}

// QuarantinedRecord is an attachment record that nothing goes by, as it is damaged or
// claims what another sandbox has.
type QuarantinedRecord struct {
	File   string `json:"file"`
	Reason string `json:"reason"`
}

// DirtyAttachment is what is left on the network of a sandbox that was stopped. Its
// addresses stay reserved until CNI DEL succeeds.
type DirtyAttachment struct {
	SandboxID string       `json:"sandboxId"`
	Pod       string       `json:"pod"`
	Network   string       `json:"network"`
	IPs       []netip.Addr `json:"ips,omitempty"`
	Since     time.Time    `json:"since"`
	Tries     int          `json:"tries"`
	NextTry   time.Time    `json:"nextTry,omitzero"` // zero: at the daemon's next start, or right now
	Error     string       `json:"error"`            // of the last try
}

// Plugin is one CNI plugin or IPAM delegate of the chosen config.
type Plugin struct {
	Type string `json:"type"`
	IPAM bool   `json:"ipam"`           // an IPAM delegate
	Path string `json:"path,omitempty"` // "" when Err is set
	Err  string `json:"error,omitempty"`
}

// Link is an interface of the node that pods are connected by: a bridge, or the
// parent of their own interfaces.
type Link struct {
	Name   string `json:"name"`
	Plugin string `json:"plugin"`        // such as bridge
	MTU    int    `json:"mtu,omitempty"` // that the config asks for; 0: it does not
}

// PassedConfig is a config file that was not chosen.
type PassedConfig struct {
	File   string `json:"file"`
	Reason string `json:"reason"` // with line and column where the file is invalid
	// Invalid is false for a valid file that only comes later in lexical order.
	Invalid bool `json:"invalid"`
}

// Forwarding is the state of the rules that let pod traffic be forwarded.
type Forwarding struct {
	OK      bool   `json:"ok"`
	Message string `json:"message"` // what is in place, or what is wrong and how to mend it
}
