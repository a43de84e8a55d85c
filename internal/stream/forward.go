package stream

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"strings"

	"golang.org/x/sync/errgroup"

	"github.com/mascri/mascri/internal/netns"
)

// PortForward implements streaming.Runtime: it carries one connection to a port of the
// pod's loopback, until both sides have ended theirs, or the client's connection is gone.
func (r runtime) PortForward(_ context.Context, sandbox string, port int32, client io.ReadWriteCloser) error {
	defer r.opts.Began("portforward")()
	sandbox, token, _ := strings.Cut(sandbox, "/") // see Server.PortForward
	under, ok := r.forwards.Load(token)
	ctx, isContext := under.(context.Context)
	if !ok || !isContext {
		return errors.New("the client is gone")
	}
	path, err := r.opts.Netns(sandbox)
	if err != nil {
		return err
	}
	server, err := dial(ctx, path, port)
	if err != nil {
		return fmt.Errorf("connect to port %d in sandbox %s: %w", port, sandbox, err)
	}
	defer server.Close()
	stop := context.AfterFunc(ctx, func() { _ = server.Close(); _ = client.Close() })
	defer stop()
	var both errgroup.Group
	both.Go(func() error {
		_, err := io.Copy(server, client)
		return errors.Join(err, server.CloseWrite()) // the answer may still come
	})
	both.Go(func() error {
		defer client.Close() // it reads no further then, and the other direction ends
		_, err := io.Copy(client, server)
		return err
	})
	err = both.Wait()
	if err != nil && ctx.Err() == nil {
		r.opts.Logger.Debug("a forwarded connection broke", "sandbox", sandbox, "port", port, "error", err)
	}
	return nil // both ends have seen it
}

// loopbacks are tried in this order: "localhost" of a pod may be either.
var loopbacks = [2]netip.Addr{netip.AddrFrom4([4]byte{127, 0, 0, 1}), netip.IPv6Loopback()}

// dial connects from within the network namespace at path, "" for this one. The socket
// belongs to the namespace that it was made in, whoever uses it later.
func dial(ctx context.Context, path string, port int32) (*net.TCPConn, error) {
	connect := func(ctx context.Context, address netip.AddrPort) (conn net.Conn, err error) {
		work := func() error {
			conn, err = (&net.Dialer{}).DialContext(ctx, "tcp", address.String())
			return err
		}
		if path == "" {
			err = work()
		} else {
			err = netns.At(path, work)
		}
		return conn, err
	}
	var errs []error
	for _, loopback := range loopbacks {
		conn, err := connect(ctx, netip.AddrPortFrom(loopback, uint16(port)))
		if tcp, ok := conn.(*net.TCPConn); err == nil && ok {
			return tcp, nil
		}
		errs = append(errs, err)
	}
	return nil, fmt.Errorf("%w; %w", errs[0], errs[1])
}
