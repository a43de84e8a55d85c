package rtnetlink_test

import (
	"errors"
	"net"
	"net/netip"
	"slices"
	"testing"

	"github.com/vishvananda/netlink"

	"github.com/mascri/mascri/internal/rtnetlink"
)

func TestDumpReadsAgainWhatChangedMeanwhile(t *testing.T) {
	broken := errors.New("broken")
	for name, test := range map[string]struct {
		errs  []error // of one attempt each; the last is that of all further ones
		want  error
		reads int
	}{
		"still":           {[]error{nil}, nil, 1},
		"interrupted":     {[]error{netlink.ErrDumpInterrupted, netlink.ErrDumpInterrupted, nil}, nil, 3},
		"fails otherwise": {[]error{netlink.ErrDumpInterrupted, broken}, broken, 2},
		"never still":     {[]error{netlink.ErrDumpInterrupted}, netlink.ErrDumpInterrupted, 10},
	} {
		t.Run(name, func(t *testing.T) {
			reads := 0
			list, err := rtnetlink.Dump(func() ([]int, error) {
				reads++
				return []int{reads}, test.errs[min(reads, len(test.errs))-1]
			})
			if !errors.Is(err, test.want) || reads != test.reads || !slices.Equal(list, []int{reads}) {
				t.Errorf("%v, %v after %d reads, want %v after %d", list, err, reads, test.want, test.reads)
			}
		})
	}
}

func TestPrefix(t *testing.T) {
	for name, test := range map[string]struct {
		in   *net.IPNet
		want string
	}{
		"IPv4":                      {&net.IPNet{IP: net.IPv4(10, 88, 0, 2), Mask: net.CIDRMask(16, 32)}, "10.88.0.2/16"},
		"IPv6":                      {&net.IPNet{IP: net.ParseIP("fd00::2"), Mask: net.CIDRMask(64, 128)}, "fd00::2/64"},
		"no network, default route": {nil, ""},
		"no address":                {&net.IPNet{}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			got, ok := rtnetlink.Prefix(test.in)
			if ok != (test.want != "") || ok && got != netip.MustParsePrefix(test.want) {
				t.Errorf("%v, %v, want %q", got, ok, test.want)
			}
		})
	}
}
