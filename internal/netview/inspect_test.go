package netview

import (
	"bytes"
	"encoding/json"
	"errors"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/containerd/errdefs"
	"github.com/google/go-cmp/cmp"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/mascri/mascri/internal/golden"
	"github.com/mascri/mascri/internal/network"
	"github.com/mascri/mascri/internal/pod"
	"github.com/mascri/mascri/internal/table"
)

func web() Detail {
	prefix, addr := netip.MustParsePrefix, netip.MustParseAddr
	return Detail{
		ID: webID, Pod: "default/web", Phase: pod.Attached, Network: "podnet", ConfigFile: "/etc/cni/net.d/10-podnet.conflist",
		CreatedAt: time.Date(2026, 11, 24, 6, 55, 20, 0, time.Local), IPs: []netip.Addr{addr("10.88.0.2")},
		NetnsPath: "/run/netns/cni-c18523ad5313a95a0d626b514b854792", NetnsInode: 4026532567,
		Interfaces: []Interface{
			{Name: "lo", Kind: "device", MTU: 65536, Up: true, Addresses: []netip.Prefix{prefix("127.0.0.1/8")}},
			{
				Name: "eth0", Kind: "veth", MAC: "6a:cc:3e:15:18:a1", MTU: 1500, Up: true, Host: HostSide{Link: "veth1a2b3c4d", Bridge: "cni0"},
				Addresses: []netip.Prefix{prefix("10.88.0.2/16"), prefix("fe80::68cc:3eff:fe15:18a1/64")},
				Received:  Traffic{Packets: 1200, Bytes: 1_890_000, Dropped: 2}, Sent: Traffic{Packets: 9, Bytes: 726},
			},
			{Name: "net1", Kind: "macvlan", MAC: "6a:cc:3e:15:18:b1", MTU: 1500, Host: HostSide{Link: "enp0s31f6"}},
		},
		Routes: []Route{
			{Destination: prefix("0.0.0.0/0"), Gateway: addr("10.88.0.1"), Link: "eth0"},
			{Destination: prefix("10.88.0.0/16"), Link: "eth0", Source: addr("10.88.0.2")},
		},
		ResolvConf: "/var/lib/mascri/sandboxes/J5CLVZZGQO2KDMWQVZVC5Q6XPM/resolv.conf",
		Resolv: []string{"search default.svc.cluster.local svc.cluster.local cluster.local example.com",
			"nameserver 10.96.0.10", "options ndots:5"},
		Ports: []network.Port{
			{HostPort: 8080, ContainerPort: 80, Protocol: "tcp"}, {HostIP: "::1", HostPort: 53, ContainerPort: 5353, Protocol: "udp"},
		},
		Plugins: []string{"bridge", "portmap"},
		Runs:    []pod.PluginRun{{Plugin: "bridge", Milliseconds: 19.97}, {Plugin: "portmap", Milliseconds: 102.4}},
		Result:  json.RawMessage(`{"cniVersion":"1.0.0","ips":[{"interface":2,"address":"10.88.0.2/16"}]}`),
	}
}

func TestDetailAsText(t *testing.T) {
	var b, coloured bytes.Buffer
	if err := errors.Join(web().WriteText(&b, false), web().WriteText(&coloured, true)); err != nil {
		t.Fatal(err)
	}
	golden.Compare(t, "inspect.txt", b.Bytes())
	fits(t, b.String())
	if bare := strings.NewReplacer(table.Bold, "", table.Plain, "").Replace(coloured.String()); bare != b.String() || bare == coloured.String() {
		t.Errorf("in colour:\n%q", coloured.String())
	}
}

func TestDetailOfAPodThatIsGone(t *testing.T) {
	d := web()
	d.Problem, d.Interfaces, d.Routes, d.Runs, d.Ports, d.ResolvConf = "the network namespace is not pinned at /run/netns/cni-c18523ad5313a95a0d626b514b854792", nil, nil, nil, nil, ""
	var b bytes.Buffer
	if err := d.WriteText(&b, false); err != nil {
		t.Fatal(err)
	}
	golden.Compare(t, "inspect-gone.txt", b.Bytes())
}

func TestBytesInThreeDigits(t *testing.T) {
	for n, want := range map[uint64]string{
		0: "0 B", 999: "999 B", 1000: "1.0 kB", 1949: "1.9 kB", 99_940: "99.9 kB", 99_960: "100 kB", 999_499: "999 kB", 999_500: "1.0 MB",
		1 << 63: "9.2 EB",
	} {
		if got := table.Bytes(n); got != want {
			t.Errorf("%d: got %s, want %s", n, got, want)
		}
	}
}

func TestInspectOfARealPod(t *testing.T) {
	l := newLab(t, bridgeList)
	if l == nil {
		return
	}
	a := l.run("web", &cri.PortMapping{HostPort: 8080, ContainerPort: 80})
	dir := filepath.Join(l.state, "sandboxes", "x")
	err := errors.Join(os.MkdirAll(dir, 0o700),
		os.WriteFile(filepath.Join(dir, "hosts"), []byte("127.0.0.1\tlocalhost\n"+a.IPs[0].String()+"\tweb\n"), 0o600),
		os.WriteFile(filepath.Join(dir, "resolv.conf"), []byte("nameserver 10.96.0.10\n"), 0o600))
	if err != nil {
		t.Fatal(err)
	}
	inPod(t, a, "busybox ping -qc2 -W1 10.88.0.1")
	d, err := Inspect(l.state, "default/web")
	if err != nil || d.Problem != "" {
		t.Fatalf("problem %q, error %v", d.Problem, err)
	}
	if inode := inPod(t, a, "stat -Lc %i /proc/self/ns/net"); inode != strconv.FormatUint(d.NetnsInode, 10) {
		t.Errorf("inode %d, want %s", d.NetnsInode, inode)
	}
	eth0 := d.Interfaces[slices.IndexFunc(d.Interfaces, func(i Interface) bool { return i.Name == "eth0" })]
	if eth0.Sent.Packets < 2 || eth0.Received.Packets < 2 || !eth0.Up || eth0.Kind != "veth" || eth0.Host.Bridge != "cni0" {
		t.Errorf("eth0 %+v", eth0)
	}
	if !slices.Contains(eth0.Addresses, netip.MustParsePrefix("10.88.0.2/24")) {
		t.Errorf("addresses %v", eth0.Addresses)
	}
	for _, want := range []Route{
		{Destination: netip.MustParsePrefix("0.0.0.0/0"), Gateway: netip.MustParseAddr("10.88.0.1"), Link: "eth0"},
		{Destination: netip.MustParsePrefix("::/0"), Gateway: netip.MustParseAddr("fd00:88::1"), Link: "eth0", Priority: 1024},
		{Destination: netip.MustParsePrefix("10.88.0.0/24"), Link: "eth0", Source: netip.MustParseAddr("10.88.0.2")},
	} {
		if !slices.Contains(d.Routes, want) {
			t.Errorf("no route %+v in %+v", want, d.Routes)
		}
	}
	if diff := cmp.Diff([]string{"nameserver 10.96.0.10"}, d.Resolv); diff != "" {
		t.Errorf("resolv.conf (-want +got):\n%s", diff)
	}
	if len(d.Runs) != 2 || len(d.Ports) != 1 || !json.Valid(d.Result) {
		t.Errorf("detail %+v", d)
	}
	if _, err := Inspect(l.state, "default/none"); !errdefs.IsNotFound(err) {
		t.Errorf("error %v", err)
	}
}
