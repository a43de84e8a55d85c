package stream

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"net/http"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// watchedListener makes connections tell of their end: net/http watches none that a stream
// took over, and a command that reads and writes nothing would never learn that its client
// is gone.
//
// It has room for a number of connections. More are closed at once: whoever may connect may
// not know any stream's address.
type watchedListener struct {
	net.Listener
	room chan struct{} // filled by one for each connection that is open
}

func (l watchedListener) Accept() (net.Conn, error) {
	for {
		conn, err := l.Listener.Accept()
		if err != nil {
			return nil, err
		}
		select {
		case l.room <- struct{}{}:
			return &watchedConn{Conn: conn, gone: make(chan struct{}), leave: sync.OnceFunc(func() { <-l.room })}, nil
		default:
			_ = conn.Close()
		}
	}
}

// watchedConn closes gone when the peer did, or when it was closed here. Both protocols
// read all the time, but for input that waits for a process which takes none.
type watchedConn struct {
	net.Conn
	gone  chan struct{}
	once  sync.Once
	leave func()      // gives its room back, once
	taken atomic.Bool // over from net/http
}

// hangupPoll is how often a connection is looked at that nobody may be reading.
const hangupPoll = time.Second

type connKey struct{}

func (c *watchedConn) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	if err != nil && !errors.Is(err, os.ErrDeadlineExceeded) { // by which net/http hands it over
		c.end()
	}
	return n, err
}

// Write takes everything once the peer is gone. It would be no use to anyone to know: the
// context tells. But a stream of spdystream whose beginning could not be answered would keep
// whoever writes to it for ever.
func (c *watchedConn) Write(p []byte) (int, error) {
	n, err := c.Conn.Write(p)
	if err != nil && c.taken.Load() {
		c.end()
		return len(p), nil
	}
	return n, err
}

func (c *watchedConn) Close() error {
	c.end()
	defer c.leave()
	return c.Conn.Close()
}

func (c *watchedConn) end() { c.once.Do(func() { close(c.gone) }) }

// hungUp tells whether the peer closed the connection, whatever is still to be read.
func (c *watchedConn) hungUp() bool {
	socket, ok := c.Conn.(syscall.Conn)
	if !ok {
		return false
	}
	raw, err := socket.SyscallConn()
	if err != nil {
		return true
	}
	hungUp := false
	err = raw.Control(func(fd uintptr) {
		n, err := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLRDHUP}}, 0)
		hungUp = n > 0 && err == nil
	})
	return hungUp || err != nil
}

// watched returns what Accept returned, below TLS.
func watched(conn net.Conn) (*watchedConn, bool) {
	if secure, ok := conn.(*tls.Conn); ok {
		conn = secure.NetConn()
	}
	c, ok := conn.(*watchedConn)
	return c, ok
}

// connContext returns a context that ends with the connection, which itself ends with ctx.
func connContext(ctx context.Context, conn net.Conn) context.Context {
	c, ok := watched(conn)
	if !ok {
		return ctx
	}
	ctx, cancel := context.WithCancel(context.WithValue(ctx, connKey{}, c))
	go func() {
		defer cancel()
		defer c.release()
		ticker := time.NewTicker(hangupPoll)
		defer ticker.Stop()
		for {
			select {
			case <-c.gone:
				return
			case <-ctx.Done():
				return
			case <-ticker.C:
				if c.hungUp() {
					return
				}
			}
		}
	}()
	return ctx
}

func connState(conn net.Conn, state http.ConnState) {
	if c, ok := watched(conn); ok && state == http.StateHijacked {
		c.taken.Store(true)
	}
}

// release closes a connection that net/http forgot, so that nobody is left writing to it.
func (c *watchedConn) release() {
	if c.taken.Load() {
		_ = c.Close()
	}
}
