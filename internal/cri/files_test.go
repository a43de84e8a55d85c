package cri

import (
	"errors"
	"net/netip"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	cri "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/mascri/mascri/internal/pod"
)

func TestDNSOfTheNetworkIsUsedWhereTheRequestSaysNothing(t *testing.T) {
	const node = "nameserver 192.0.2.1\nsearch node.local"
	for _, tt := range []struct {
		name string
		asks *cri.DNSConfig
		dns  pod.DNS
		want string
	}{
		{"neither", nil, pod.DNS{}, node},
		{"name servers", nil, pod.DNS{Nameservers: []string{"10.0.0.10"}, Search: []string{"a.b"}}, "search a.b\nnameserver 10.0.0.10\n"},
		{"search domains alone", nil, pod.DNS{Search: []string{"a.b", "c.d"}}, node + "\nsearch a.b c.d\n"},
		{"an empty request", &cri.DNSConfig{}, pod.DNS{Nameservers: []string{"10.0.0.10"}}, "nameserver 10.0.0.10\n"},
		{"the request comes first", &cri.DNSConfig{Options: []string{"ndots:5"}}, pod.DNS{Nameservers: []string{"10.0.0.10"}}, node},
	} {
		t.Run(tt.name, func(t *testing.T) {
			dir := t.TempDir()
			sandbox := pod.Sandbox{ID: strings.Repeat("a", 64)}
			sandbox.Config = &cri.PodSandboxConfig{DnsConfig: tt.asks}
			sandbox.Files = pod.Files{ResolvConf: filepath.Join(dir, "resolv.conf"), Hosts: filepath.Join(dir, "hosts")}
			for path, text := range map[string]string{sandbox.Files.ResolvConf: node, sandbox.Files.Hosts: localHosts} {
				if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			attachment := pod.Attachment{IPs: []netip.Addr{netip.MustParseAddr("10.88.0.2")}, DNS: tt.dns}
			for range 2 { // as after a crash
				if err := newFiles(dir).finish(sandbox, attachment); err != nil {
					t.Fatal(err)
				}
				holds(t, sandbox.Files.ResolvConf, tt.want)
			}
			holds(t, sandbox.Files.Hosts, localHosts+"10.88.0.2\t"+strings.Repeat("a", 12)+"\n")
		})
	}
}

// What containers wrote to their hosts and resolv.conf is neither read without end nor added to.
func TestHugeFiles(t *testing.T) {
	dir := t.TempDir()
	sandbox := pod.Sandbox{ID: strings.Repeat("a", 64), Config: &cri.PodSandboxConfig{}}
	sandbox.Files = pod.Files{ResolvConf: filepath.Join(dir, "resolv.conf"), Hosts: filepath.Join(dir, "hosts")}
	attachment := pod.Attachment{IPs: []netip.Addr{netip.MustParseAddr("10.88.0.2")}}
	const huge = 64 << 20
	check := func(path, begins string, want error) {
		t.Helper()
		if err := errors.Join(os.WriteFile(path, []byte(begins), 0o600), os.Truncate(path, huge)); err != nil {
			t.Fatal(err)
		}
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		if err := newFiles(dir).finish(sandbox, attachment); !errors.Is(err, want) {
			t.Errorf("error %v, want %v", err, want)
		}
		runtime.ReadMemStats(&after)
		if took := after.TotalAlloc - before.TotalAlloc; took > huge/2 {
			t.Errorf("it took %d bytes of memory", took)
		}
		if stat, err := os.Stat(path); err != nil || stat.Size() != huge {
			t.Errorf("%v, %v", stat, err)
		}
	}
	check(sandbox.Files.Hosts, localHosts, errTooLarge)
	check(sandbox.Files.Hosts, localHosts+"10.88.0.2\t"+strings.Repeat("a", 12)+"\n", nil)
	attachment.DNS.Search = []string{"a.b"}
	check(sandbox.Files.ResolvConf, "", errTooLarge)
}

func holds(t *testing.T, path, want string) {
	t.Helper()
	if text, err := os.ReadFile(path); err != nil || string(text) != want {
		t.Errorf("%s holds %q, want %q; error %v", path, text, want, err)
	}
}
