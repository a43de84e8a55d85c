package stream

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"testing"
	"time"

	cri "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/mascri/mascri/internal/pod"
)

// wantClosed waits until the server closes a connection.
func wantClosed(t *testing.T, conn net.Conn, within time.Duration) {
	t.Helper()
	_ = conn.SetReadDeadline(time.Now().Add(within))
	var timeout net.Error
	if _, err := io.Copy(io.Discard, conn); errors.As(err, &timeout) && timeout.Timeout() {
		t.Errorf("the server keeps the connection")
	}
}

func connect(t *testing.T, s *Server) net.Conn {
	t.Helper()
	conn, err := net.Dial("tcp", s.listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return conn
}

// More connections than there is room for are closed, and there is room again when one ends,
// whichever way: as it is closed, or a stream took it over.
func TestTooManyConnectionsAreClosed(t *testing.T) {
	s, _ := run(t, Options{Connections: 2, Exec: func(ctx context.Context, _ string, _ []string, _ pod.Streams) (int, error) {
		<-ctx.Done()
		return 0, ctx.Err()
	}})
	for range 3 {
		first := connect(t, s)
		fmt.Fprint(first, "GET / HTTP/1.1\r\nHost: x\r\n\r\n") // it is served
		if _, err := http.ReadResponse(bufio.NewReader(first), nil); err != nil {
			t.Fatal(err)
		}
		resp, err := s.Exec(&cri.ExecRequest{ContainerId: "c", Cmd: []string{"x"}, Stdout: true})
		if err != nil {
			t.Fatal(err)
		}
		taken := dialStream(t, resp.GetUrl(), nil)
		wantClosed(t, connect(t, s), 10*time.Second)
		first.Close()
		taken.Close()
		for end := time.Now().Add(10 * time.Second); len(s.room()) > 0 && time.Now().Before(end); time.Sleep(time.Millisecond) {
		}
		if n := len(s.room()); n > 0 {
			t.Fatalf("%d connections are open, want 0", n)
		}
	}
}

func (s *Server) room() chan struct{} {
	l, _ := s.listener.(watchedListener)
	return l.room
}

// A client that is no stream's does not stay.
func TestIdleConnectionsAreClosed(t *testing.T) {
	s, _ := run(t, Options{})
	conn := connect(t, s)
	fmt.Fprint(conn, "GET /exec/unknown HTTP/1.1\r\nHost: x\r\n\r\n")
	wantClosed(t, conn, idleLimit+10*time.Second)
}
