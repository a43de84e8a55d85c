package netview

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"os"
	"slices"
	"strings"
	"time"

	"golang.org/x/net/dns/dnsmessage"

	"github.com/mascri/mascri/internal/netns"
)

// dnsPatience is how long a name server may take for one answer.
const dnsPatience = 2 * time.Second

// dnsPort is where name servers listen.
const dnsPort = 53

// dns asks each of the pod's name servers.
func (p *probe) dns(ctx context.Context, resolv []string, name string) {
	var servers []netip.Addr
	for _, line := range resolv {
		words := strings.Fields(line)
		if len(words) < 2 || words[0] != "nameserver" {
			continue
		}
		if ip, err := netip.ParseAddr(words[1]); err == nil {
			servers = append(servers, ip)
		}
	}
	if len(servers) == 0 {
		p.note("DNS", Skipped, "", "the pod's resolv.conf names no server")
	}
	if name == "" {
		name = "." // which every server knows something of
	}
	for _, server := range servers {
		if server.IsLoopback() {
			p.note("DNS", Failed, server.String(), "%s is the pod's own loopback, where no server is: set another in the node's resolv.conf, or in the kubelet's", server)
			continue
		}
		code, answers, took, err := p.query(ctx, server, name)
		switch {
		case err == nil && (name == "." || code == dnsmessage.RCodeSuccess && len(answers) > 0):
			text := fmt.Sprintf("%s answers in %.2f ms", server, float64(took.Microseconds())/1000)
			if len(answers) > 0 {
				text += fmt.Sprintf(": %s is %s", name, strings.Join(answers, ", "))
			}
			p.note("DNS", Passed, "", "%s", text)
		case err == nil:
			p.note("DNS", Failed, server.String(), "%s answers that there is no address of %s (%s)", server, name, codeText(code))
		case errors.Is(err, os.ErrDeadlineExceeded):
			p.note("DNS", Failed, p.wayTo(server), "%s does not answer within %v", server, dnsPatience)
		default:
			p.note("DNS", Failed, server.String(), "%s can't be asked: %v", server, err)
		}
	}
}

// codeText is a code as dig(1) writes the commonest.
func codeText(code dnsmessage.RCode) string {
	switch code {
	case dnsmessage.RCodeSuccess:
		return "NODATA"
	case dnsmessage.RCodeNameError:
		return "NXDOMAIN"
	case dnsmessage.RCodeServerFailure:
		return "SERVFAIL"
	case dnsmessage.RCodeRefused:
		return "REFUSED"
	}
	return strings.TrimPrefix(code.String(), "RCode")
}

// wayTo names where packets to a silent server are lost.
func (p *probe) wayTo(server netip.Addr) string {
	pinger, err := p.pinger(server)
	if err != nil {
		return server.String()
	}
	defer pinger.close()
	switch last := pinger.lastHop(server); {
	case last == server:
		return server.String() + ", which is there and answers to ping"
	case last.IsValid():
		return "after " + last.String()
	}
	return cmp.Or(p.eth0.Host.Bridge, p.eth0.Host.Link, podInterface)
}

// query asks a name server for the addresses of name, or for the servers of the root.
func (p *probe) query(ctx context.Context, server netip.Addr, name string) (dnsmessage.RCode, []string, time.Duration, error) {
	id := uint16(rand.Uint32())
	packet, err := question(id, name, !slices.ContainsFunc(p.rec.IPs, netip.Addr.Is4))
	if err != nil {
		return 0, nil, 0, err
	}
	var conn net.Conn
	err = netns.At(p.rec.NetnsPath, func() (err error) {
		conn, err = net.DialUDP("udp", nil, net.UDPAddrFromAddrPort(netip.AddrPortFrom(server, dnsPort)))
		return err
	})
	if err != nil {
		return 0, nil, 0, err
	}
	defer conn.Close()
	began := time.Now()
	deadline := began.Add(dnsPatience)
	if limit, ok := ctx.Deadline(); ok && limit.Before(deadline) {
		deadline = limit
	}
	if err := conn.SetDeadline(deadline); err != nil {
		return 0, nil, 0, err
	}
	if _, err := conn.Write(packet); err != nil {
		return 0, nil, 0, err
	}
	buffer := make([]byte, 1<<16)
	for {
		n, err := conn.Read(buffer)
		if err != nil {
			return 0, nil, 0, err
		}
		var answer dnsmessage.Message
		if answer.Unpack(buffer[:n]) == nil && answer.ID == id && answer.Response {
			return answer.RCode, addressesIn(answer), time.Since(began), nil
		}
	}
}

func question(id uint16, name string, v6 bool) ([]byte, error) {
	kind := dnsmessage.TypeA
	switch {
	case name == ".":
		kind = dnsmessage.TypeNS
	case v6:
		kind = dnsmessage.TypeAAAA
	}
	if !strings.HasSuffix(name, ".") {
		name += "."
	}
	parsed, err := dnsmessage.NewName(name)
	if err != nil {
		return nil, fmt.Errorf("name %q: %w", name, err)
	}
	m := dnsmessage.Message{
		Header:    dnsmessage.Header{ID: id, RecursionDesired: true},
		Questions: []dnsmessage.Question{{Name: parsed, Type: kind, Class: dnsmessage.ClassINET}},
	}
	packet, err := m.Pack()
	if err != nil {
		return nil, fmt.Errorf("name %q: %w", name, err)
	}
	return packet, nil
}

func addressesIn(answer dnsmessage.Message) []string {
	var all []string
	for _, a := range answer.Answers {
		switch body := a.Body.(type) {
		case *dnsmessage.AResource:
			all = append(all, netip.AddrFrom4(body.A).String())
		case *dnsmessage.AAAAResource:
			all = append(all, netip.AddrFrom16(body.AAAA).String())
		}
	}
	return all
}
