package capture

import (
	"fmt"
	"net/netip"
	"strconv"
	"strings"

	"github.com/containerd/errdefs"
	"golang.org/x/net/bpf"
)

// Protocol numbers of IP, and types of Ethernet frames.
const (
	protoICMP   = 1
	protoTCP    = 6
	protoUDP    = 17
	protoICMPv6 = 58
	protoSCTP   = 132

	etherIPv4 = 0x0800
	etherARP  = 0x0806
	etherIPv6 = 0x86dd
)

// snapLength is how much of a packet is kept: all of the largest that the kernel makes.
const snapLength = 1 << 18

// compile makes a program for the kernel of a filter such as "tcp port 80 and not host
// 10.88.0.1". It knows arp, ip, ip6, icmp, icmp6, tcp, udp, sctp, [src|dst] host ADDRESS,
// [src|dst] net PREFIX, [src|dst] port NUMBER, and, or, not and parentheses, as
// pcap-filter(7) has them. An empty filter lets all pass, with nil. The error is
// ErrInvalidArgument.
//
// Ports are those of first fragments, and of IPv6 packets without extension headers. The
// frames are Ethernet's, without VLAN tags, which the kernel takes off before.
func compile(text string) ([]bpf.RawInstruction, error) {
	program, err := assemble(text)
	if err != nil || program == nil {
		return nil, err
	}
	raw, err := bpf.Assemble(program)
	if err != nil {
		return nil, fmt.Errorf("filter %q: %w", text, err)
	}
	return raw, nil
}

func assemble(text string) ([]bpf.Instruction, error) {
	p := parser{words: split(text)}
	if len(p.words) == 0 {
		return nil, nil
	}
	test, err := p.or()
	if err == nil && p.at < len(p.words) {
		err = fmt.Errorf("%q is not expected there", p.words[p.at])
	}
	var program []bpf.Instruction
	if err == nil {
		program, err = generate(test)
	}
	if err != nil {
		return nil, fmt.Errorf("filter %q: %w: %w", text, err, errdefs.ErrInvalidArgument)
	}
	return program, nil
}

// split parts words and parentheses.
func split(text string) []string {
	return strings.Fields(strings.NewReplacer("(", " ( ", ")", " ) ", "!", " ! ").Replace(text))
}

// parser reads an expression by recursive descent.
type parser struct {
	words []string
	at    int
	depth int
}

// mostNested bounds parentheses and negations: a program of more could not be run anyway.
const mostNested = 32

func (p *parser) next() string {
	if p.at == len(p.words) {
		return ""
	}
	return strings.ToLower(p.words[p.at])
}

func (p *parser) accept(words ...string) bool {
	for _, word := range words {
		if p.next() == word {
			p.at++
			return true
		}
	}
	return false
}

func (p *parser) or() (test, error) {
	left, err := p.and()
	for err == nil && p.accept("or", "||") {
		var right test
		if right, err = p.and(); err == nil {
			left = either{left, right}
		}
	}
	return left, err
}

// and also joins what stands side by side, as in "tcp port 80".
func (p *parser) and() (test, error) {
	left, err := p.not()
	for err == nil && (p.accept("and", "&&") || p.next() != "" && p.next() != ")" && p.next() != "or" && p.next() != "||") {
		var right test
		if right, err = p.not(); err == nil {
			left = both{left, right}
		}
	}
	return left, err
}

func (p *parser) not() (test, error) {
	if p.depth++; p.depth > mostNested {
		return nil, fmt.Errorf("it is nested more than %d deep", mostNested)
	}
	defer func() { p.depth-- }()
	switch {
	case p.accept("not", "!"):
		of, err := p.not()
		return negation{of}, err
	case p.accept("("):
		of, err := p.or()
		if err == nil && !p.accept(")") {
			err = fmt.Errorf("a parenthesis is not closed")
		}
		return of, err
	}
	return p.primitive()
}

func (p *parser) primitive() (test, error) {
	protocols := map[string]test{
		"arp": frames(etherARP), "ip": frames(etherIPv4), "ip6": frames(etherIPv6),
		"icmp": both{frames(etherIPv4), transport(protoICMP)}, "icmp6": both{frames(etherIPv6), transport(protoICMPv6)},
		"tcp": transport(protoTCP), "udp": transport(protoUDP), "sctp": transport(protoSCTP),
	}
	if t, ok := protocols[p.next()]; ok {
		p.at++
		return t, nil
	}
	sides := anySide
	switch {
	case p.accept("src"):
		sides = source
	case p.accept("dst"):
		sides = destination
	}
	switch {
	case p.accept("host"):
		ip, err := netip.ParseAddr(p.next())
		if err != nil || ip.Zone() != "" {
			return nil, fmt.Errorf("%q is no IP address", p.next())
		}
		p.at++
		ip = ip.Unmap()
		return addresses{sides, netip.PrefixFrom(ip, ip.BitLen())}, nil
	case p.accept("net"):
		prefix, err := netip.ParsePrefix(p.next())
		if err != nil {
			return nil, fmt.Errorf("%q is no network such as 10.88.0.0/16", p.next())
		}
		p.at++
		return addresses{sides, prefix.Masked()}, nil
	case p.accept("port"):
		number, err := strconv.ParseUint(p.next(), 10, 16)
		if err != nil {
			return nil, fmt.Errorf("%q is no port", p.next())
		}
		p.at++
		return ports{sides, uint32(number)}, nil
	case p.next() == "":
		return nil, fmt.Errorf("it ends too early")
	}
	return nil, fmt.Errorf("%q is not one of arp, ip, ip6, icmp, icmp6, tcp, udp, sctp, host, net, port, src, dst, and, or, not", p.words[p.at])
}
