package capture

import (
	"net"
	"strings"
	"testing"

	"github.com/containerd/errdefs"
	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"
	"golang.org/x/net/bpf"
)

// packets are one of each kind that filters tell apart.
func packets(t *testing.T) map[string][]byte {
	t.Helper()
	mac := net.HardwareAddr{2, 0, 0, 0, 0, 1}
	ether := func(kind layers.EthernetType) *layers.Ethernet {
		return &layers.Ethernet{SrcMAC: mac, DstMAC: mac, EthernetType: kind}
	}
	v4 := func(protocol layers.IPProtocol, options ...layers.IPv4Option) *layers.IPv4 {
		return &layers.IPv4{Version: 4, TTL: 64, Protocol: protocol, SrcIP: net.IP{10, 88, 0, 2}, DstIP: net.IP{10, 88, 1, 3}, Options: options}
	}
	v6 := &layers.IPv6{Version: 6, HopLimit: 64, SrcIP: net.ParseIP("fd00:88::2"), DstIP: net.ParseIP("fd00:88:0:1::3")}
	v6tcp := *v6
	v6tcp.NextHeader = layers.IPProtocolTCP
	v6icmp := *v6
	v6icmp.NextHeader = layers.IPProtocolICMPv6
	fragment := v4(layers.IPProtocolUDP)
	fragment.FragOffset = 100
	tcp := &layers.TCP{SrcPort: 40000, DstPort: 80}
	udp := &layers.UDP{SrcPort: 53, DstPort: 40000}
	option := layers.IPv4Option{OptionType: 1, OptionLength: 1}
	all := map[string][]gopacket.SerializableLayer{
		"tcp":      {ether(layers.EthernetTypeIPv4), v4(layers.IPProtocolTCP), tcp},
		"options":  {ether(layers.EthernetTypeIPv4), v4(layers.IPProtocolTCP, option, option, option, option), tcp},
		"udp":      {ether(layers.EthernetTypeIPv4), v4(layers.IPProtocolUDP), udp},
		"fragment": {ether(layers.EthernetTypeIPv4), fragment, gopacket.Payload{0, 53, 0, 53, 0, 8, 0, 0}},
		"icmp":     {ether(layers.EthernetTypeIPv4), v4(layers.IPProtocolICMPv4), &layers.ICMPv4{TypeCode: layers.CreateICMPv4TypeCode(8, 0), Id: 80, Seq: 80}},
		"tcp6":     {ether(layers.EthernetTypeIPv6), &v6tcp, tcp},
		"icmp6":    {ether(layers.EthernetTypeIPv6), &v6icmp, &layers.ICMPv6{TypeCode: layers.CreateICMPv6TypeCode(128, 0)}},
		"arp": {ether(layers.EthernetTypeARP), &layers.ARP{AddrType: layers.LinkTypeEthernet, Protocol: layers.EthernetTypeIPv4, HwAddressSize: 6, ProtAddressSize: 4,
			Operation: 1, SourceHwAddress: mac, SourceProtAddress: []byte{10, 88, 0, 2}, DstHwAddress: mac, DstProtAddress: []byte{10, 88, 0, 1}}},
		"short": {gopacket.Payload{1, 2, 3}},
	}
	made := map[string][]byte{}
	for name, parts := range all {
		buffer := gopacket.NewSerializeBuffer()
		if err := gopacket.SerializeLayers(buffer, gopacket.SerializeOptions{FixLengths: true}, parts...); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		made[name] = buffer.Bytes()
	}
	return made
}

func TestFilterPassesWhatItSays(t *testing.T) {
	frames := packets(t)
	for _, tt := range []struct{ filter, want string }{
		{"ip", "tcp options udp fragment icmp"},
		{"ip6", "tcp6 icmp6"},
		{"arp", "arp"},
		{"tcp", "tcp options tcp6"},
		{"TCP", "tcp options tcp6"},
		{"udp", "udp fragment"},
		{"sctp", ""},
		{"icmp", "icmp"},
		{"icmp6", "icmp6"},
		{"port 80", "tcp options tcp6"},
		{"src port 80", ""},
		{"dst port 80", "tcp options tcp6"},
		{"port 53", "udp"},
		{"src port 53", "udp"},
		{"dst port 53", ""},
		{"tcp port 80", "tcp options tcp6"},
		{"udp port 80", ""},
		{"host 10.88.0.2", "tcp options udp fragment icmp arp"},
		{"src host 10.88.0.2", "tcp options udp fragment icmp arp"},
		{"dst host 10.88.0.2", ""},
		{"dst host 10.88.0.1", "arp"},
		{"host ::ffff:10.88.1.3", "tcp options udp fragment icmp"},
		{"host fd00:88::2", "tcp6 icmp6"},
		{"dst host fd00:88:0:1::3", "tcp6 icmp6"},
		{"src host fd00:88:0:1::3", ""},
		{"host fd00:88::3", ""},
		{"net 10.88.1.9/24", "tcp options udp fragment icmp"},
		{"src net 10.88.0.0/24", "tcp options udp fragment icmp arp"},
		{"net 10.89.0.0/16", ""},
		{"net 0.0.0.0/0", "tcp options udp fragment icmp arp"},
		{"dst net fd00:88:0:1::/64", "tcp6 icmp6"},
		{"dst net fd00:88:0:2::/64", ""},
		{"net fd00:80::/29", ""},
		{"net fd00:80::/28", "tcp6 icmp6"},
		{"net ::/0", "tcp6 icmp6"},
		{"not ip", "tcp6 icmp6 arp"},
		{"!(ip or ip6)", "arp"},
		{"not not arp", "arp"},
		{"tcp and not ip6", "tcp options"},
		{"arp || icmp6 && ip6", "arp icmp6"},
		{"(arp or icmp6) and ip6", "icmp6"},
		{"not port 80 and ip", "udp fragment icmp"},
		{"port 80 and host 10.88.0.2 or port 53 and not src port 80", "tcp options udp"},
	} {
		program, err := assemble(tt.filter)
		if err != nil {
			t.Errorf("%s: %v", tt.filter, err)
			continue
		}
		vm, err := bpf.NewVM(program)
		if err != nil {
			t.Errorf("%s: %v", tt.filter, err)
			continue
		}
		wanted := strings.Fields(tt.want)
		for name, frame := range frames {
			n, err := vm.Run(frame)
			if err != nil {
				t.Errorf("%s of %s: %v", tt.filter, name, err)
			}
			passes := false
			for _, w := range wanted {
				passes = passes || w == name
			}
			if (n > 0) != passes {
				t.Errorf("%s passes %s: %t, want %t", tt.filter, name, n > 0, passes)
			}
		}
	}
}

func TestBadFilters(t *testing.T) {
	for filter, want := range map[string]string{
		"tcp and":                          "it ends too early",
		"port http":                        `"http" is no port`,
		"port 65536":                       "is no port",
		"host web":                         `"web" is no IP address`,
		"host fe80::1%eth0":                "is no IP address",
		"net 10.88.0.0":                    "is no network",
		"(tcp":                             "a parenthesis is not closed",
		"tcp)":                             `")" is not expected there`,
		"tcpdump":                          `"tcpdump" is not one of`,
		"src tcp":                          `"tcp" is not one of`,
		strings.Repeat("not ", 40) + "tcp": "nested",
		strings.Repeat("net fd00::/60 or ", 60) + "tcp": "too long",
	} {
		if _, err := compile(filter); !errdefs.IsInvalidArgument(err) || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: error %v, want %s", filter, err, want)
		}
	}
	if program, err := compile("  "); program != nil || err != nil {
		t.Errorf("no filter: %v, %v", program, err)
	}
}

// What is accepted can be run, on any packet.
func FuzzFilter(f *testing.F) {
	for _, seed := range []string{"tcp port 80", "not (host fd00::1 or arp)", "src net 10.0.0.0/8 && !udp", "((", "! ! ip"} {
		f.Add(seed, []byte{1, 2, 3})
	}
	f.Fuzz(func(t *testing.T, filter string, frame []byte) {
		program, err := assemble(filter)
		if err != nil || program == nil {
			return
		}
		vm, err := bpf.NewVM(program)
		if err != nil {
			t.Fatalf("%q: %v", filter, err)
		}
		if n, err := vm.Run(frame); err != nil || n != 0 && n != snapLength {
			t.Errorf("%q: %d, %v", filter, n, err)
		}
	})
}
