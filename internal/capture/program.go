package capture

import (
	"encoding/binary"
	"fmt"
	"net/netip"

	"golang.org/x/net/bpf"
)

// test is something that a packet is or is not.
type test interface {
	// emit writes code that goes on at yes or at no, which are both further on.
	emit(g *generator, yes, no label)
}

type (
	both      struct{ a, b test }
	either    struct{ a, b test }
	negation  struct{ of test }
	frames    uint32   // of that type of Ethernet
	transport uint32   // that protocol of IP
	addresses struct { // in a network
		sides side
		in    netip.Prefix
	}
	ports struct {
		sides  side
		number uint32
	}
	side int
)

// The sides of a packet.
const (
	source side = 1 << iota
	destination
	anySide side = source | destination
)

// Offsets in an Ethernet frame.
const (
	offType          = 12
	offPayload       = 14
	offIPv4Fragment  = offPayload + 6
	offIPv4Protocol  = offPayload + 9
	offIPv4Source    = offPayload + 12
	offIPv4Dest      = offPayload + 16
	offARPSender     = offPayload + 14
	offARPTarget     = offPayload + 24
	offIPv6Protocol  = offPayload + 6
	offIPv6Source    = offPayload + 8
	offIPv6Dest      = offPayload + 24
	offIPv6Transport = offPayload + 40

	fragmentBits = 0x1fff
)

func (t both) emit(g *generator, yes, no label) {
	then := g.label()
	t.a.emit(g, then, no)
	g.mark(then)
	t.b.emit(g, yes, no)
}

func (t either) emit(g *generator, yes, no label) {
	otherwise := g.label()
	t.a.emit(g, yes, otherwise)
	g.mark(otherwise)
	t.b.emit(g, yes, no)
}

func (t negation) emit(g *generator, yes, no label) { t.of.emit(g, no, yes) }

func (t frames) emit(g *generator, yes, no label) {
	g.add(bpf.LoadAbsolute{Off: offType, Size: 2})
	g.branch(bpf.JumpEqual, uint32(t), yes, no)
}

func (t transport) emit(g *generator, yes, no label) {
	v4, not4, v6 := g.label(), g.label(), g.label()
	frames(etherIPv4).emit(g, v4, not4)
	g.mark(v4)
	g.add(bpf.LoadAbsolute{Off: offIPv4Protocol, Size: 1})
	g.branch(bpf.JumpEqual, uint32(t), yes, no)
	g.mark(not4)
	frames(etherIPv6).emit(g, v6, no)
	g.mark(v6)
	g.add(bpf.LoadAbsolute{Off: offIPv6Protocol, Size: 1})
	g.branch(bpf.JumpEqual, uint32(t), yes, no)
}

func (t addresses) emit(g *generator, yes, no label) {
	if t.in.Addr().Is6() {
		found := g.label()
		frames(etherIPv6).emit(g, found, no)
		g.mark(found)
		t.match(g, offIPv6Source, offIPv6Dest, yes, no)
		return
	}
	v4, not4, arp := g.label(), g.label(), g.label()
	frames(etherIPv4).emit(g, v4, not4)
	g.mark(v4)
	t.match(g, offIPv4Source, offIPv4Dest, yes, no)
	g.mark(not4)
	frames(etherARP).emit(g, arp, no)
	g.mark(arp)
	t.match(g, offARPSender, offARPTarget, yes, no)
}

// match compares the addresses at the given offsets.
func (t addresses) match(g *generator, from, to uint32, yes, no label) {
	switch t.sides {
	case source:
		t.matchAt(g, from, yes, no)
	case destination:
		t.matchAt(g, to, yes, no)
	default:
		other := g.label()
		t.matchAt(g, from, yes, other)
		g.mark(other)
		t.matchAt(g, to, yes, no)
	}
}

// matchAt compares one address, in words of 32 bits.
func (t addresses) matchAt(g *generator, offset uint32, yes, no label) {
	words := t.in.Addr().AsSlice()
	for i := 0; i < len(words)/4; i++ {
		bits := min(max(t.in.Bits()-32*i, 0), 32)
		if bits == 0 {
			break
		}
		mask := uint32(0xffffffff) << (32 - bits)
		g.add(bpf.LoadAbsolute{Off: offset + uint32(4*i), Size: 4})
		if bits < 32 {
			g.add(bpf.ALUOpConstant{Op: bpf.ALUOpAnd, Val: mask})
		}
		same := g.label()
		g.branch(bpf.JumpEqual, binary.BigEndian.Uint32(words[4*i:])&mask, same, no)
		g.mark(same)
	}
	g.jump(yes)
}

func (t ports) emit(g *generator, yes, no label) {
	v4, not4, v6, whole, ported := g.label(), g.label(), g.label(), g.label(), g.label()
	frames(etherIPv4).emit(g, v4, not4)
	g.mark(v4)
	g.add(bpf.LoadAbsolute{Off: offIPv4Protocol, Size: 1})
	g.oneOf(whole, no, protoTCP, protoUDP, protoSCTP)
	g.mark(whole)
	g.add(bpf.LoadAbsolute{Off: offIPv4Fragment, Size: 2})
	first := g.label()
	g.branch(bpf.JumpBitsSet, fragmentBits, no, first)
	g.mark(first)
	g.add(bpf.LoadMemShift{Off: offPayload}) // X: the length of the header
	t.match(g, func(offset uint32) bpf.Instruction { return bpf.LoadIndirect{Off: offPayload + offset, Size: 2} }, yes, no)
	g.mark(not4)
	frames(etherIPv6).emit(g, v6, no)
	g.mark(v6)
	g.add(bpf.LoadAbsolute{Off: offIPv6Protocol, Size: 1})
	g.oneOf(ported, no, protoTCP, protoUDP, protoSCTP)
	g.mark(ported)
	t.match(g, func(offset uint32) bpf.Instruction { return bpf.LoadAbsolute{Off: offIPv6Transport + offset, Size: 2} }, yes, no)
}

// match compares the ports, which load takes from an offset in the transport's header.
func (t ports) match(g *generator, load func(uint32) bpf.Instruction, yes, no label) {
	if t.sides&source != 0 {
		miss := no
		if t.sides == anySide {
			miss = g.label()
		}
		g.add(load(0))
		g.branch(bpf.JumpEqual, t.number, yes, miss)
		if miss == no {
			return
		}
		g.mark(miss)
	}
	g.add(load(2))
	g.branch(bpf.JumpEqual, t.number, yes, no)
}

// label is a place in the program.
type label int

// generator collects instructions whose jumps lead to labels.
type generator struct {
	program []instruction
	places  []int // of labels
}

// instruction is one that jumps where test is set, or the one that stands for itself.
type instruction struct {
	plain   bpf.Instruction
	test    bpf.JumpTest
	value   uint32
	yes, no label
}

func (g *generator) label() label {
	g.places = append(g.places, -1)
	return label(len(g.places) - 1)
}

func (g *generator) mark(l label) { g.places[l] = len(g.program) }

func (g *generator) add(i bpf.Instruction) { g.program = append(g.program, instruction{plain: i}) }

func (g *generator) branch(test bpf.JumpTest, value uint32, yes, no label) {
	g.program = append(g.program, instruction{test: test, value: value, yes: yes, no: no})
}

// jump goes to one label in any case.
func (g *generator) jump(to label) { g.branch(bpf.JumpEqual, 0, to, to) }

func (g *generator) oneOf(yes, no label, values ...uint32) {
	for i, value := range values {
		miss := no
		if i < len(values)-1 {
			miss = g.label()
		}
		g.branch(bpf.JumpEqual, value, yes, miss)
		if miss != no {
			g.mark(miss)
		}
	}
}

// farthest is how far a jump of the kernel's machine leads.
const farthest = 255

// generate makes the program that keeps the packets of t.
func generate(t test) ([]bpf.Instruction, error) {
	g := &generator{}
	yes, no := g.label(), g.label()
	t.emit(g, yes, no)
	g.mark(yes)
	g.add(bpf.RetConstant{Val: snapLength})
	g.mark(no)
	g.add(bpf.RetConstant{Val: 0})
	program := make([]bpf.Instruction, 0, len(g.program))
	for at, i := range g.program {
		if i.plain != nil {
			program = append(program, i.plain)
			continue
		}
		yes, no := g.places[i.yes]-at-1, g.places[i.no]-at-1
		if max(yes, no) > farthest {
			return nil, fmt.Errorf("it is too long")
		}
		program = append(program, bpf.JumpIf{Cond: i.test, Val: i.value, SkipTrue: uint8(yes), SkipFalse: uint8(no)})
	}
	return program, nil
}
