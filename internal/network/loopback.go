package network

import (
	"errors"
	"fmt"
	"net"
	"os"
	"strings"

	"github.com/vishvananda/netlink"

	"github.com/mascri/mascri/internal/netns"
)

// prepare makes a sandbox's network namespace fit for plugins: IPv6 enabled,
// which Docker up to 20.10 turns off where it attaches no network itself, unless
// the pod's own sysctls say what they want, and the loopback interface up, which
// Docker sees to, but need not.
func prepare(ns openNS, sysctls map[string]string) error {
	return netns.Do(ns.File, func() error {
		for _, name := range []string{"all", "default", "lo"} {
			if decidesIPv6(sysctls) {
				break
			}
			if err := enableIPv6(name); err != nil {
				return err
			}
		}
		return raiseLoopback()
	})
}

// decidesIPv6 tells whether a pod's sysctls turn IPv6 on or off for any interface.
func decidesIPv6(sysctls map[string]string) bool {
	for name := range sysctls {
		name = strings.ReplaceAll(name, "/", ".")
		if strings.HasPrefix(name, "net.ipv6.conf.") && strings.HasSuffix(name, ".disable_ipv6") {
			return true
		}
	}
	return false
}

func enableIPv6(name string) error {
	path := "/proc/sys/net/ipv6/conf/" + name + "/disable_ipv6"
	value, err := os.ReadFile(path)
	if errors.Is(err, os.ErrNotExist) {
		return nil // the kernel has no IPv6
	}
	if err != nil {
		return fmt.Errorf("enable IPv6: %w", err)
	}
	if strings.TrimSpace(string(value)) == "0" {
		return nil
	}
	if err := os.WriteFile(path, []byte("0"), 0); err != nil {
		return fmt.Errorf("enable IPv6: %w", err)
	}
	return nil
}

func raiseLoopback() error {
	lo, err := netlink.LinkByName("lo")
	if err != nil {
		return fmt.Errorf("find lo: %w", err)
	}
	if lo.Attrs().Flags&net.FlagUp != 0 {
		return nil
	}
	if err := netlink.LinkSetUp(lo); err != nil {
		return fmt.Errorf("set lo up: %w", err)
	}
	return nil
}
