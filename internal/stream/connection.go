package stream

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"os"
	"sync"
)

// watchedListener makes connections tell of their end: net/http watches none that a stream
// took over, and a command that reads and writes nothing would never learn that its client
// is gone.
type watchedListener struct{ net.Listener }

func (l watchedListener) Accept() (net.Conn, error) {
	conn, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return &watchedConn{Conn: conn, gone: make(chan struct{})}, nil
}

// watchedConn closes gone when the peer did, or when it was closed here. Something reads
// all the time, as both protocols have frames.
type watchedConn struct {
	net.Conn
	gone chan struct{}
	once sync.Once
}

func (c *watchedConn) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	if err != nil && !errors.Is(err, os.ErrDeadlineExceeded) { // by which net/http hands it over
		c.end()
	}
	return n, err
}

func (c *watchedConn) Close() error {
	c.end()
	return c.Conn.Close()
}

func (c *watchedConn) end() { c.once.Do(func() { close(c.gone) }) }

// connContext returns a context that ends with the connection.
func connContext(ctx context.Context, conn net.Conn) context.Context {
	if secure, ok := conn.(*tls.Conn); ok {
		conn = secure.NetConn()
	}
	watched, ok := conn.(*watchedConn)
	if !ok {
		return ctx
	}
	ctx, cancel := context.WithCancel(ctx)
	go func() {
		defer cancel()
		select {
		case <-watched.gone:
		case <-ctx.Done():
		}
	}()
	return ctx
}
