package netview

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"os"
	"slices"
	"time"

	"golang.org/x/net/icmp"
	"golang.org/x/net/ipv4"
	"golang.org/x/net/ipv6"
	"golang.org/x/sys/unix"

	"github.com/mascri/mascri/internal/netns"
)

// Sizes of headers that a packet has before what is sent in it.
const (
	icmpHeader = 8
	ipv4Header = 20
	ipv6Header = 40
)

// pinger sends ICMP echo requests from a pod that may not be fragmented. It is for one
// goroutine.
type pinger struct {
	conn net.PacketConn
	v6   bool
	own  []netip.Addr // the pod's addresses
	id   int
	seq  int
}

// echo is what came back.
type echo struct {
	from    netip.Addr
	took    time.Duration
	reply   bool   // from whom was asked; else what somebody on the way says
	refused string // such as "host unreachable"; "" where the hops were used up
	mtu     int    // of the next hop, where a packet was too big
}

// openPinger opens a socket in the network namespace at path.
func openPinger(path string, v6 bool, own []netip.Addr) (*pinger, error) {
	p := &pinger{v6: v6, own: own, id: rand.IntN(1 << 16)}
	err := netns.At(path, func() (err error) {
		if v6 {
			p.conn, err = net.ListenPacket("ip6:ipv6-icmp", "::")
		} else {
			p.conn, err = net.ListenPacket("ip4:icmp", "0.0.0.0")
		}
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("open a socket in the pod: %w", err)
	}
	// Not even what the kernel remembers of the way is to keep a packet from being tried.
	if err := p.set(unix.IP_MTU_DISCOVER, unix.IP_PMTUDISC_PROBE, unix.IPV6_MTU_DISCOVER, unix.IPV6_PMTUDISC_PROBE); err != nil {
		p.close()
		return nil, err
	}
	return p, nil
}

func (p *pinger) close() { p.conn.Close() }

// set sets an option of the socket's IP family.
func (p *pinger) set(option4, value4, option6, value6 int) error {
	raw, err := p.conn.(*net.IPConn).SyscallConn()
	if err != nil {
		return err
	}
	var failed error
	err = raw.Control(func(fd uintptr) {
		if p.v6 {
			failed = unix.SetsockoptInt(int(fd), unix.IPPROTO_IPV6, option6, value6)
		} else {
			failed = unix.SetsockoptInt(int(fd), unix.IPPROTO_IP, option4, value4)
		}
	})
	if err := errors.Join(err, failed); err != nil {
		return fmt.Errorf("set a socket option: %w", err)
	}
	return nil
}

// ping sends a packet of size bytes in all, over as many hops at most, and waits for what
// comes back. The error is os.ErrDeadlineExceeded where nothing does, and EMSGSIZE where
// the packet is too large for the pod's own interface.
func (p *pinger) ping(to netip.Addr, size, hops int, patience time.Duration) (echo, error) {
	if err := p.set(unix.IP_TTL, hops, unix.IPV6_UNICAST_HOPS, hops); err != nil {
		return echo{}, err
	}
	p.seq = (p.seq + 1) & 0xffff
	header := ipv4Header + icmpHeader
	message := icmp.Message{Type: ipv4.ICMPTypeEcho}
	if p.v6 {
		header, message.Type = ipv6Header+icmpHeader, ipv6.ICMPTypeEchoRequest
	}
	message.Body = &icmp.Echo{ID: p.id, Seq: p.seq, Data: make([]byte, max(0, size-header))}
	packet, err := message.Marshal(nil) // the kernel fills in the checksum of ICMPv6
	if err != nil {
		return echo{}, err
	}
	began := time.Now()
	if err := p.conn.SetReadDeadline(began.Add(patience)); err != nil {
		return echo{}, err
	}
	if _, err := p.conn.WriteTo(packet, &net.IPAddr{IP: to.AsSlice()}); err != nil {
		return echo{}, err
	}
	buffer := make([]byte, 1<<16)
	for {
		n, peer, err := p.conn.ReadFrom(buffer)
		if err != nil {
			return echo{}, err
		}
		from, err := netip.ParseAddr(peer.String())
		if err != nil {
			continue
		}
		if got, ok := p.read(buffer[:n]); ok && (!got.reply || from.WithZone("") == to) {
			got.from, got.took = from.WithZone(""), time.Since(began)
			return got, nil
		}
	}
}

// read tells what a packet says of the last request; false: nothing.
func (p *pinger) read(packet []byte) (echo, bool) {
	protocol := unix.IPPROTO_ICMP
	if p.v6 {
		protocol = unix.IPPROTO_ICMPV6
	}
	message, err := icmp.ParseMessage(protocol, packet)
	if err != nil {
		return echo{}, false
	}
	switch body := message.Body.(type) {
	case *icmp.Echo:
		answer := message.Type == ipv4.ICMPTypeEchoReply || message.Type == ipv6.ICMPTypeEchoReply
		return echo{reply: true}, answer && body.ID == p.id && body.Seq == p.seq
	case *icmp.TimeExceeded:
		return echo{}, p.quotes(body.Data)
	case *icmp.PacketTooBig:
		return echo{refused: "packet too big", mtu: body.MTU}, p.quotes(body.Data)
	case *icmp.DstUnreach:
		e := echo{refused: unreachable(p.v6, message.Code)}
		if !p.v6 && message.Code == 4 && len(packet) >= icmpHeader { // RFC 1191
			e.mtu = int(binary.BigEndian.Uint16(packet[6:]))
		}
		return e, p.quotes(body.Data)
	}
	return echo{}, false
}

// quotes tells whether an error is about the last request, whose beginning it has.
func (p *pinger) quotes(packet []byte) bool {
	header := ipv6Header
	if !p.v6 {
		if len(packet) == 0 {
			return false
		}
		header = int(packet[0]&0x0f) * 4
	}
	if len(packet) < header+icmpHeader {
		return false
	}
	packet = packet[header:]
	return int(binary.BigEndian.Uint16(packet[4:])) == p.id && int(binary.BigEndian.Uint16(packet[6:])) == p.seq
}

// unreachable names the codes that routers and firewalls send.
func unreachable(v6 bool, code int) string {
	codes := map[int]string{0: "network unreachable", 1: "host unreachable", 2: "protocol unreachable", 4: "packet too big", 9: "prohibited", 10: "prohibited", 13: "prohibited"}
	if v6 {
		codes = map[int]string{0: "no route", 1: "prohibited", 3: "address unreachable", 5: "prohibited", 6: "route rejected"}
	}
	if text, ok := codes[code]; ok {
		return text
	}
	return fmt.Sprintf("unreachable (code %d)", code)
}

// tries and patience are those of a ping before a hop counts as dead: the first packet
// may wait for a neighbour's address.
const (
	tries    = 3
	patience = 500 * time.Millisecond
	farHops  = 64
)

// reach pings until there is an answer, or until it is sure that there is none.
func (p *pinger) reach(to netip.Addr, size int) (echo, error) {
	for try := 0; ; try++ {
		e, err := p.ping(to, size, farHops, patience)
		if err == nil && slices.Contains(p.own, e.from) && !e.reply {
			// The pod's own kernel gave up on a neighbour that it may have asked for before.
			err = os.ErrDeadlineExceeded
		}
		if !errors.Is(err, os.ErrDeadlineExceeded) || try == tries-1 {
			return e, err
		}
	}
}

// lastHop returns the last router on the way that says that it got a packet.
func (p *pinger) lastHop(to netip.Addr) (last netip.Addr) {
	const most, silent = 16, 2
	quiet := 0
	for hops := 1; hops <= most && quiet < silent; hops++ {
		e, err := p.ping(to, 0, hops, patience/2)
		if err != nil {
			quiet++
			continue
		}
		if slices.Contains(p.own, e.from) {
			break
		}
		last, quiet = e.from, 0
		if e.reply || e.refused != "" {
			break
		}
	}
	return last
}

// largest is the size of the largest packet that gets an answer, of those between low,
// which does, and high, which does not.
func (p *pinger) largest(to netip.Addr, low, high int) int {
	for high-low > 1 {
		size := (low + high) / 2
		if e, err := p.ping(to, size, farHops, patience/2); err == nil && e.reply {
			low = size
		} else {
			high = size
		}
	}
	return low
}
