package leaks

import (
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/mascri/mascri/internal/network/firewall"
)

// Whatever is in a file of host-local's store, and whatever it is called: what no past attachment
// of ours owns is not released, and what a present one needs is there in the end.
func FuzzReservation(f *testing.F) {
	past, present := strings.Repeat("a", 64), strings.Repeat("b", 64)
	for _, name := range []string{"10.88.0.2", "10.88.0.3", "fd00:88::2", "lock", "last_reserved_ip.0", "x"} {
		for _, text := range []string{past + "\r\neth0", present + "\r\neth0", past, "", "\x00\x00\x00", "stranger\r\neth0", past + "\n" + present, " \r\n" + past} {
			f.Add(name, []byte(text))
		}
	}
	f.Fuzz(func(t *testing.T, name string, text []byte) {
		if !filepath.IsLocal(name) || strings.ContainsAny(name, "/\x00") || len(name) > 200 || name == "." {
			t.Skip("no file can have that name")
		}
		dir := t.TempDir()
		for file, text := range map[string][]byte{"lock": nil, name: text} {
			if err := os.WriteFile(filepath.Join(dir, file), text, 0o600); err != nil {
				t.Fatal(err)
			}
		}
		owner := func(id string) firewall.Owner { return firewall.Owner{SandboxID: id, IfName: "eth0", Network: "n"} }
		needed := filepath.Join(dir, "10.88.0.3")
		found, err := findReservations(t.Context(), dir, map[string]Past{past: {Owner: owner(past)}}, []Present{{Owner: owner(present), Reserved: []string{needed}}})
		if err != nil {
			t.Fatal(err)
		}
		for _, leak := range found {
			if err := leak.mend(t.Context()); err != nil {
				t.Errorf("%+v: %v", leak, err)
			}
		}
		_, notAddress := netip.ParseAddr(name)
		first, _, _ := strings.Cut(strings.Trim(string(text), "\x00 \r\n"), "\n")
		first = strings.TrimSpace(first)
		if _, err := os.Stat(filepath.Join(dir, name)); err != nil && (notAddress != nil || first != past && first != "") {
			t.Errorf("%q with %q was removed", name, text)
		}
		now, err := ownerOf(needed)
		if err != nil || now != present && (name != "10.88.0.3" || now != first || now == past || now == "") {
			t.Errorf("the address of a present sandbox is %q's: %v", now, err)
		}
	})
}
