package defaultnet

import (
	"errors"
	"math/rand/v2"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/containerd/errdefs"

	"github.com/mascri/mascri/internal/durable"
)

func prefixes(texts ...string) []netip.Prefix {
	var list []netip.Prefix
	for _, text := range texts {
		list = append(list, netip.MustParsePrefix(text))
	}
	return list
}

func TestChooseIPv4(t *testing.T) {
	tests := []struct {
		name  string
		taken []string
		want  string
	}{
		{"an idle host", nil, "10.88.0.0/16"},
		{"a LAN elsewhere", []string{"192.168.1.0/24", "172.17.0.0/16", "10.0.0.0/16"}, "10.88.0.0/16"},
		{"an address in the preferred subnet", []string{"10.88.200.7/32"}, "10.89.0.0/16"},
		{"a wider route over the preferred subnet", []string{"10.64.0.0/10"}, "10.128.0.0/16"},
		{"only the beginning of 10/8 is free", []string{"10.64.0.0/10", "10.128.0.0/9"}, "10.0.0.0/16"},
		{"a VPN has all of 10/8", []string{"10.0.0.0/8"}, "172.16.0.0/16"},
		{"and Docker its pools", []string{"10.0.0.0/8", "172.16.0.0/12"}, "192.168.0.0/16"},
		{"no /16", []string{"10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/18"}, "192.168.64.0/20"},
		{"no /20", []string{"10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/17", "192.168.128.0/18", "192.168.192.0/19", "192.168.224.0/20", "192.168.240.0/23"}, "192.168.242.0/24"},
		{"IPv6 does not matter", []string{"fd00::/8", "::/0"}, "10.88.0.0/16"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			got, err := chooseIPv4(prefixes(test.taken...))
			if err != nil || got.String() != test.want {
				t.Errorf("got %s, %v, want %s", got, err, test.want)
			}
		})
	}
	if got, err := chooseIPv4(privateBlocks); !errdefs.IsFailedPrecondition(err) {
		t.Errorf("all taken: got %s, %v, want ErrFailedPrecondition", got, err)
	}
}

func FuzzChooseIPv4(f *testing.F) {
	f.Add(uint64(1), uint8(3))
	f.Add(uint64(2), uint8(200))
	f.Fuzz(func(t *testing.T, seed uint64, count uint8) {
		random := rand.New(rand.NewPCG(seed, 0))
		var taken []netip.Prefix
		for range count {
			block := privateBlocks[random.IntN(len(privateBlocks))].Addr().As4()
			block[1] |= byte(random.Uint32())
			block[2] |= byte(random.Uint32())
			taken = append(taken, netip.PrefixFrom(netip.AddrFrom4(block), 8+random.IntN(25)).Masked())
		}
		got, err := chooseIPv4(taken)
		if err != nil {
			// Every /24 of every block must then be taken.
			for _, block := range privateBlocks {
				for s := range subnets(block, 24) {
					if !overlaps(s, taken) {
						t.Fatalf("%v, although %s is free of %v", err, s, taken)
					}
				}
			}
			return
		}
		if !validIPv4(got) || !got.Addr().IsPrivate() {
			t.Errorf("chose %s", got)
		}
		for _, p := range taken {
			if p.Overlaps(got) {
				t.Errorf("chose %s, which overlaps %s", got, p)
			}
		}
	})
}

func TestSubnetsAreEachYieldedOnce(t *testing.T) {
	for _, block := range privateBlocks {
		for _, bits := range []int{16, 20} {
			seen := map[netip.Prefix]bool{}
			for s := range subnets(block, bits) {
				if seen[s] || !block.Contains(s.Addr()) || s != s.Masked() {
					t.Fatalf("%s in /%d: %s, seen before: %t", block, bits, s, seen[s])
				}
				seen[s] = true
			}
			if want := 1 << (bits - block.Bits()); len(seen) != want {
				t.Errorf("%s has %d subnets of /%d, want %d", block, len(seen), bits, want)
			}
		}
	}
}

func TestChooseIPv6(t *testing.T) {
	unique := map[netip.Prefix]bool{}
	for range 100 {
		s := chooseIPv6(prefixes("fd00::/9")) // half of all: it must be asked again
		if !validIPv6(s) || s.Addr().As16()[0] != 0xfd || s.Addr().As16()[1] < 0x80 {
			t.Errorf("chose %s", s)
		}
		unique[s] = true
	}
	if len(unique) != 100 {
		t.Errorf("%d different subnets of 100", len(unique))
	}
}

func TestState(t *testing.T) {
	file := filepath.Join(t.TempDir(), "default-network.json")
	if c, err := readChoice(file); c != (choice{}) || err != nil {
		t.Errorf("without a file: %+v, %v", c, err)
	}
	for _, want := range []choice{
		{IPv4: netip.MustParsePrefix("10.88.0.0/16")},
		{IPv4: netip.MustParsePrefix("192.168.64.0/20"), IPv6: netip.MustParsePrefix("fd12:3456:789a::/64")},
	} {
		if err := writeChoice(file, want); err != nil {
			t.Fatalf("write: %v", err)
		}
		if got, err := readChoice(file); got != want || err != nil {
			t.Errorf("read %+v, %v, want %+v", got, err, want)
		}
	}
	if entries, err := os.ReadDir(filepath.Dir(file)); err != nil || len(entries) != 1 {
		t.Errorf("the directory has %v (%v), want the file alone", entries, err)
	}
	for _, text := range []string{"", "{", "{}", "null", `{"ipv4":"10.88.0.0/31"}`, `{"ipv4":"10.88.0.1/16"}`, `{"ipv4":"10.88.0.0/16","ipv6":"fd00::/48"}`} {
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if c, err := readChoice(file); err == nil || !strings.Contains(err.Error(), errCorrupt.Error()) {
			t.Errorf("%q: %+v, %v", text, c, err)
		}
	}
	if err := writeChoice(filepath.Join(file, "below-a-file"), choice{}); err == nil {
		t.Error("written below a file")
	}
	// As it was written when it had no version.
	if err := os.WriteFile(file, []byte(`{"ipv4":"10.88.0.0/16"}`), 0o600); err != nil {
		t.Fatal(err)
	}
	if c, err := readChoice(file); err != nil || c.IPv4.String() != "10.88.0.0/16" {
		t.Errorf("without a version: %+v, %v", c, err)
	}
	// What a newer version wrote is not chosen anew.
	if err := os.WriteFile(file, []byte(`{"version":2,"ipv4":["10.88.0.0/16"]}`), 0o600); err != nil {
		t.Fatal(err)
	}
	if c, err := readChoice(file); !errors.Is(err, durable.ErrNewer) || errors.Is(err, errCorrupt) || !strings.Contains(err.Error(), file) {
		t.Errorf("of a newer version: %+v, %v", c, err)
	}
}
