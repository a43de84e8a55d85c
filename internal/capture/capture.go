// Package capture records the packets of an interface in another network namespace, as
// pcapng, which Wireshark and tshark read. It needs nothing in that namespace's images.
package capture

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"runtime"
	"time"

	"github.com/containerd/errdefs"
	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"
	"github.com/gopacket/gopacket/pcapgo"
	"github.com/mdlayher/socket"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/mascri/mascri/internal/netns"
)

// receiveBuffer is what the kernel may keep while the writer is slow.
const receiveBuffer = 8 << 20

// Options say what to capture.
type Options struct {
	NetnsPath string
	Interface string
	Filter    string // see compile; "": all packets
	// Count and Duration end the capture; 0: they don't.
	Count    uint64
	Duration time.Duration
	// Program and Comment are noted in the file.
	Program, Comment string
}

// Summary is what was captured.
type Summary struct {
	Packets uint64 `json:"packets"`
	Bytes   uint64 `json:"bytes"`   // as they were on the wire
	Dropped uint64 `json:"dropped"` // for which there was no room
}

// Run writes packets to w until ctx ends, which is no error, or one of the options' limits
// is reached. Each packet is written at once, so that a reader can follow. After an error,
// what was written is good; the error is ErrInvalidArgument for a bad filter and
// ErrNotFound for an interface that is not there.
func Run(ctx context.Context, w io.Writer, options Options) (Summary, error) {
	filter, err := compile(options.Filter)
	if err != nil {
		return Summary{}, err
	}
	c := &capture{}
	err = netns.At(options.NetnsPath, func() (err error) {
		index, err := ethernet(options.Interface)
		if err != nil {
			return err
		}
		c.conn, err = socket.Socket(unix.AF_PACKET, unix.SOCK_RAW, 0, "packet", nil)
		c.index = index
		return err
	})
	if err != nil {
		return Summary{}, fmt.Errorf("capture on %s: %w", options.Interface, err)
	}
	defer c.conn.Close()
	// The filter comes before the bind: not one packet passes without it.
	if filter != nil {
		if err := c.conn.SetBPF(filter); err != nil {
			return Summary{}, fmt.Errorf("set the filter: %w", err)
		}
	}
	if err := c.prepare(); err != nil {
		return Summary{}, fmt.Errorf("capture on %s: %w", options.Interface, err)
	}
	if options.Duration > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, options.Duration)
		defer cancel()
	}
	if err := c.begin(w, options); err != nil {
		return Summary{}, fmt.Errorf("write the capture: %w", err)
	}
	err = c.copy(ctx, options.Count)
	return c.summary, errors.Join(err, c.end())
}

// ethernet returns the index of an interface whose frames are Ethernet's.
func ethernet(name string) (int, error) {
	link, err := netlink.LinkByName(name)
	if errors.As(err, new(netlink.LinkNotFoundError)) {
		return 0, fmt.Errorf("the pod has no such interface: %w", errdefs.ErrNotFound)
	}
	if err != nil {
		return 0, err
	}
	if kind := link.Attrs().EncapType; kind != "ether" && kind != "loopback" {
		return 0, fmt.Errorf("its frames are of type %s, not Ethernet: %w", kind, errdefs.ErrInvalidArgument)
	}
	return link.Attrs().Index, nil
}

// capture is one under way.
type capture struct {
	conn    *socket.Conn
	index   int
	began   time.Time
	file    *pcapgo.NgWriter
	summary Summary
}

func (c *capture) prepare() error {
	return errors.Join(
		c.conn.SetReadBuffer(receiveBuffer),
		c.conn.SetsockoptInt(unix.SOL_SOCKET, unix.SO_TIMESTAMPNS, 1),
		c.conn.SetsockoptInt(unix.SOL_PACKET, unix.PACKET_AUXDATA, 1),
		c.conn.Bind(&unix.SockaddrLinklayer{Protocol: networkOrder(unix.ETH_P_ALL), Ifindex: c.index}),
	)
}

func networkOrder(n uint16) uint16 {
	return binary.NativeEndian.Uint16(binary.BigEndian.AppendUint16(nil, n))
}

func (c *capture) begin(w io.Writer, options Options) error {
	c.began = time.Now()
	var err error
	c.file, err = pcapgo.NewNgWriterInterface(w, pcapgo.NgInterface{
		Name: options.Interface, Filter: options.Filter, OS: runtime.GOOS, LinkType: layers.LinkTypeEthernet,
		SnapLength: snapLength, TimestampResolution: 9, // of 10: nanoseconds
	}, pcapgo.NgWriterOptions{SectionInfo: pcapgo.NgSectionInfo{
		Hardware: runtime.GOARCH, OS: runtime.GOOS, Application: options.Program, Comment: options.Comment,
	}})
	if err != nil {
		return err
	}
	return c.file.Flush()
}

// copy writes packets as they come.
func (c *capture) copy(ctx context.Context, count uint64) error {
	frame, control := make([]byte, snapLength), make([]byte, 256)
	for count == 0 || c.summary.Packets < count {
		n, controlled, flags, _, err := c.conn.Recvmsg(ctx, frame, control, unix.MSG_TRUNC)
		switch {
		case ctx.Err() != nil:
			return nil
		case errors.Is(err, unix.ENETDOWN):
			return errors.New("the interface went down: was the pod stopped?")
		case err != nil:
			return fmt.Errorf("receive: %w", err)
		}
		data := frame[:min(n, len(frame))]
		info := gopacket.CaptureInfo{Timestamp: time.Now(), Length: n}
		if flags&unix.MSG_CTRUNC == 0 {
			data = notes(control[:controlled], &info, data)
		}
		info.CaptureLength = len(data)
		if err := errors.Join(c.file.WritePacket(info, data), c.file.Flush()); err != nil {
			return fmt.Errorf("write the capture: %w", err)
		}
		c.summary.Packets++
		c.summary.Bytes += uint64(info.Length)
	}
	return nil
}

// auxBytes is the size of the kernel's struct tpacket_auxdata, and the rest are places in it.
const (
	auxBytes = 20
	auxTCI   = 16
	auxTPID  = 18
)

// notes takes the time from what the kernel says beside a packet, and puts back the VLAN
// tag that it took off.
func notes(control []byte, info *gopacket.CaptureInfo, frame []byte) []byte {
	messages, err := unix.ParseSocketControlMessage(control)
	if err != nil {
		return frame
	}
	for _, m := range messages {
		switch {
		case m.Header.Level == unix.SOL_SOCKET && m.Header.Type == unix.SO_TIMESTAMPNS && len(m.Data) >= 16:
			info.Timestamp = time.Unix(int64(binary.NativeEndian.Uint64(m.Data)), int64(binary.NativeEndian.Uint64(m.Data[8:])))
		case m.Header.Level == unix.SOL_PACKET && m.Header.Type == unix.PACKET_AUXDATA && len(m.Data) >= auxBytes && len(frame) >= offType:
			status := binary.NativeEndian.Uint32(m.Data)
			if status&unix.TP_STATUS_VLAN_VALID == 0 {
				continue
			}
			tagged := make([]byte, 0, len(frame)+4)
			tagged = append(tagged, frame[:offType]...)
			tagged = binary.BigEndian.AppendUint16(tagged, binary.NativeEndian.Uint16(m.Data[auxTPID:]))
			tagged = binary.BigEndian.AppendUint16(tagged, binary.NativeEndian.Uint16(m.Data[auxTCI:]))
			frame = append(tagged, frame[offType:]...)
			info.Length += 4
		}
	}
	return frame
}

// end notes in the file how many packets the kernel had no room for.
func (c *capture) end() error {
	stats, err := c.conn.GetsockoptTpacketStats(unix.SOL_PACKET, unix.PACKET_STATISTICS)
	if err != nil {
		return fmt.Errorf("count what was dropped: %w", err)
	}
	c.summary.Dropped = uint64(stats.Drops)
	now := time.Now()
	err = c.file.WriteInterfaceStats(0, pcapgo.NgInterfaceStatistics{
		LastUpdate: now, StartTime: c.began, EndTime: now, PacketsReceived: uint64(stats.Packets), PacketsDropped: c.summary.Dropped,
	})
	if err := errors.Join(err, c.file.Flush()); err != nil {
		return fmt.Errorf("write the capture: %w", err)
	}
	return nil
}
