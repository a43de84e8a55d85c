package doctor

import (
	"context"
	"fmt"
	"os"
)

// Repair is something that can be mended without asking: it ends no connection, takes
// nothing from anybody, and holds until the node's next start at most.
type Repair struct {
	What string `json:"what"` // such as "set net.ipv4.ip_forward to 1"
	Why  string `json:"why"`
	Err  string `json:"error,omitempty"` // why it could not be done; set by Mend

	do func() error
}

// Mend does what is safe of all that is to be mended. Each repair is given to before
// ahead of its doing.
func Mend(ctx context.Context, sources Sources, before func(Repair)) []Repair {
	list := repairs(look(ctx, sources))
	for i := range list {
		before(list[i])
		if err := list[i].do(); err != nil {
			list[i].Err = oneLine(err)
		}
	}
	return list
}

// socketMode lets root and its group in.
const socketMode = 0o660

// repairs lists what can be mended on a node, in the order in which it must be done.
func repairs(s seen) []Repair {
	var list []Repair
	if d := s.daemon; d.name == runtimeName && d.mode.Perm()&publicBits != 0 {
		list = append(list, Repair{
			What: fmt.Sprintf("set the mode of %s to %#o", d.socket, socketMode), Why: "whoever can write to it owns this machine",
			do: func() error { return os.Chmod(d.socket, socketMode) },
		})
	}
	set := func(name, value, why string) {
		list = append(list, Repair{
			What: fmt.Sprintf("set %s to %s, until the node's next start", dotted(name), value), Why: why,
			do: func() error { return setSysctl(name, value) },
		})
	}
	// The default network sees to its own. Where nothing is known of a network there is
	// nothing that needs forwarding.
	if s.firewallErr != nil || s.network.ConfigFile == "" {
		return list
	}
	if !s.firewall.IPv4 && !onlyIPv6(s.network.Subnets) {
		set("net/ipv4/ip_forward", "1", "pods reach nothing beyond their own bridge")
	}
	if !s.ipv6 || !usesIPv6(s.network.Subnets) {
		return list
	}
	for _, u := range s.kernel.lostUplinks() { // before forwarding is on
		set(acceptRA(u.link), "2", "the node would lose its default route")
	}
	if !s.firewall.IPv6 {
		set("net/ipv6/conf/all/forwarding", "1", "pods reach nothing beyond their own bridge by IPv6")
	}
	return list
}

func onlyIPv6(subnets []string) bool {
	for _, subnet := range subnets {
		if !usesIPv6([]string{subnet}) {
			return false
		}
	}
	return len(subnets) > 0
}
