package capture

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/containerd/errdefs"
	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"
	"github.com/gopacket/gopacket/pcapgo"
	"golang.org/x/sys/unix"

	"github.com/mascri/mascri/internal/network/firewall/netlab"
)

// file is what was captured until now, for a reader beside the writer.
type file struct {
	mu sync.Mutex // guards all following fields
	b  bytes.Buffer
}

func (f *file) Write(p []byte) (int, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.b.Write(p)
}

func (f *file) bytes() []byte {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Clone(f.b.Bytes())
}

// readBack reads a capture back.
func readBack(t *testing.T, data []byte) (list []gopacket.Packet, reader *pcapgo.NgReader) {
	t.Helper()
	reader, err := pcapgo.NewNgReader(bytes.NewReader(data), pcapgo.DefaultNgReaderOptions)
	if err != nil {
		t.Fatalf("%v in %d bytes", err, len(data))
	}
	for {
		data, info, err := reader.ReadPacketData()
		if errors.Is(err, io.EOF) {
			return list, reader
		}
		if err != nil {
			t.Fatal(err)
		}
		p := gopacket.NewPacket(data, layers.LinkTypeEthernet, gopacket.Default)
		p.Metadata().CaptureInfo = info
		list = append(list, p)
	}
}

// start captures until the count, the duration or stop. It returns once packets are
// taken in.
func start(t *testing.T, options Options) (f *file, end func() (Summary, error)) {
	t.Helper()
	f = &file{}
	ctx, stop := context.WithCancel(t.Context())
	type outcome struct {
		Summary
		error
	}
	done := make(chan outcome, 1)
	go func() {
		summary, err := Run(ctx, f, options)
		done <- outcome{summary, err}
	}()
	for limit := time.Now().Add(5 * time.Second); len(f.bytes()) == 0; time.Sleep(time.Millisecond) {
		if time.Now().After(limit) {
			t.Fatal("the capture does not begin")
		}
	}
	return f, func() (Summary, error) {
		if options.Count == 0 && options.Duration == 0 {
			time.Sleep(50 * time.Millisecond) // the last packets are on their way
			stop()
		}
		o := <-done
		stop()
		return o.Summary, o.error
	}
}

func TestCaptureInAPod(t *testing.T) {
	if !netlab.Isolate(t) {
		return
	}
	netlab.Bridge(t)
	pod := netlab.Pod(t, "pod", 2)
	pod.Serve(t, 8080)
	options := Options{NetnsPath: pod.Path(), Interface: "eth0", Program: "mascri 1.2.3", Comment: "pod default/web"}
	call := func() {
		t.Helper()
		if _, err := netlab.Host().Dial("10.88.0.2", 8080, time.Second); err != nil {
			t.Fatal(err)
		}
	}
	call() // resolves addresses, so that no ARP comes between

	t.Run("all, until it is stopped", func(t *testing.T) {
		before := time.Now()
		f, end := start(t, options)
		call()
		summary, err := end()
		if err != nil {
			t.Fatal(err)
		}
		list, reader := readBack(t, f.bytes())
		if uint64(len(list)) != summary.Packets || len(list) < 6 || summary.Dropped != 0 {
			t.Errorf("%d packets, summary %+v", len(list), summary)
		}
		var text strings.Builder
		for _, p := range list {
			if tcp, ok := p.Layer(layers.LayerTypeTCP).(*layers.TCP); ok {
				text.Write(tcp.Payload)
			}
			if at := p.Metadata().Timestamp; at.Before(before) || at.After(time.Now()) {
				t.Errorf("a packet of %v", at)
			}
		}
		if text.String() != "10.88.0.1" {
			t.Errorf("the server said %q", text.String())
		}
		section, link := reader.SectionInfo(), must(reader.Interface(0))
		if section.Application != "mascri 1.2.3" || section.Comment != "pod default/web" || link.Name != "eth0" || link.Statistics.PacketsReceived < summary.Packets {
			t.Errorf("section %+v, interface %+v", section, link)
		}
	})
	t.Run("a number of packets that a filter passes", func(t *testing.T) {
		filtered := options
		filtered.Filter, filtered.Count = "tcp dst port 8080", 2
		f, end := start(t, filtered)
		netlab.Run(t, "busybox ping -qc2 10.88.0.2")
		call()
		summary, err := end()
		if err != nil || summary.Packets != 2 {
			t.Fatalf("summary %+v, error %v", summary, err)
		}
		list, _ := readBack(t, f.bytes())
		for _, p := range list {
			if tcp, ok := p.Layer(layers.LayerTypeTCP).(*layers.TCP); !ok || tcp.DstPort != 8080 {
				t.Errorf("packet %v", p)
			}
		}
	})
	t.Run("for a time", func(t *testing.T) {
		timed := options
		timed.Duration = 300 * time.Millisecond
		began := time.Now()
		_, end := start(t, timed)
		if _, err := end(); err != nil || time.Since(began) < timed.Duration || time.Since(began) > 5*timed.Duration {
			t.Errorf("took %v, error %v", time.Since(began), err)
		}
	})
	t.Run("packets are written as they come", func(t *testing.T) {
		f, end := start(t, options)
		call()
		for limit := time.Now().Add(2 * time.Second); ; time.Sleep(10 * time.Millisecond) {
			if list, _ := readBack(t, f.bytes()); len(list) >= 6 {
				break
			}
			if time.Now().After(limit) {
				t.Fatal("nothing to be read while the capture goes on")
			}
		}
		if _, err := end(); err != nil {
			t.Error(err)
		}
	})
	t.Run("VLAN tags are put back", func(t *testing.T) {
		f, end := start(t, options)
		send(t, "veth2", &layers.Ethernet{SrcMAC: make([]byte, 6), DstMAC: bytes.Repeat([]byte{0xff}, 6), EthernetType: layers.EthernetTypeDot1Q},
			&layers.Dot1Q{VLANIdentifier: 7, Priority: 5, Type: layers.EthernetTypeARP}, gopacket.Payload(make([]byte, 46)))
		if _, err := end(); err != nil {
			t.Fatal(err)
		}
		list, _ := readBack(t, f.bytes())
		tagged := slices.ContainsFunc(list, func(p gopacket.Packet) bool {
			tag, ok := p.Layer(layers.LayerTypeDot1Q).(*layers.Dot1Q)
			return ok && tag.VLANIdentifier == 7 && tag.Priority == 5 && tag.Type == layers.EthernetTypeARP
		})
		if !tagged {
			t.Errorf("no tag in %v", list)
		}
	})
	t.Run("the pod goes", func(t *testing.T) {
		_, end := start(t, Options{NetnsPath: pod.Path(), Interface: "eth0", Count: 1 << 40})
		netlab.Run(t, "ip link del veth2")
		if _, err := end(); err == nil || !strings.Contains(err.Error(), "went down") {
			t.Errorf("error %v", err)
		}
	})
	t.Run("what can't be captured", func(t *testing.T) {
		if _, err := Run(t.Context(), io.Discard, options); !errdefs.IsNotFound(err) {
			t.Errorf("no eth0: error %v", err)
		}
		bad := options
		bad.Filter = "port http"
		if _, err := Run(t.Context(), io.Discard, bad); !errdefs.IsInvalidArgument(err) {
			t.Errorf("bad filter: error %v", err)
		}
		bad = options
		bad.NetnsPath += "-none"
		if _, err := Run(t.Context(), io.Discard, bad); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("no namespace: error %v", err)
		}
		full := options
		full.Interface = "lo"
		if _, err := Run(t.Context(), failing{}, full); err == nil || !strings.Contains(err.Error(), "disk full") {
			t.Errorf("full disk: error %v", err)
		}
	})
}

// send puts a frame onto an interface of the host.
func send(t *testing.T, name string, parts ...gopacket.SerializableLayer) {
	t.Helper()
	buffer := gopacket.NewSerializeBuffer()
	link, err := net.InterfaceByName(name)
	if err == nil {
		err = gopacket.SerializeLayers(buffer, gopacket.SerializeOptions{}, parts...)
	}
	if err != nil {
		t.Fatal(err)
	}
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	if err := unix.Sendto(fd, buffer.Bytes(), 0, &unix.SockaddrLinklayer{Ifindex: link.Index}); err != nil {
		t.Fatal(err)
	}
}

// failing can't be written to.
type failing struct{}

func (failing) Write([]byte) (int, error) { return 0, fmt.Errorf("disk full") }

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}
