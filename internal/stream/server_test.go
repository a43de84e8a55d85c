package stream

import (
	"bufio"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"path"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/containerd/errdefs"
	"golang.org/x/net/websocket"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/mascri/mascri/internal/pod"
)

// run serves until the test's end, or until end is called, which returns when Run did.
func run(t *testing.T, opts Options) (s *Server, end func() error) {
	t.Helper()
	opts.Logger = slog.New(slog.DiscardHandler)
	if opts.Connections == 0 {
		opts.Connections = 100
	}
	if opts.Address == "" {
		opts.Address = "127.0.0.1:0"
	}
	s, err := Listen(opts)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- s.Run(ctx); close(ended) }()
	end = func() error { cancel(); return <-ended }
	t.Cleanup(func() { _ = end() })
	return s, end
}

// dialStream connects to an address by v4.channel.k8s.io.
func dialStream(t *testing.T, address string, secure *tls.Config) *websocket.Conn {
	t.Helper()
	config, err := websocket.NewConfig(strings.Replace(address, "http", "ws", 1), "http://localhost")
	if err != nil {
		t.Fatal(err)
	}
	config.Protocol, config.TlsConfig = []string{"v4.channel.k8s.io"}, secure
	conn, err := config.DialContext(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return conn
}

// said reads to the connection's end and returns what was said on a channel.
func said(t *testing.T, conn *websocket.Conn, channel byte) string {
	t.Helper()
	_ = conn.SetReadDeadline(time.Now().Add(10 * time.Second))
	var text strings.Builder
	for {
		var frame []byte
		err := websocket.Message.Receive(conn, &frame)
		if errors.Is(err, io.EOF) {
			return text.String()
		}
		if err != nil {
			t.Fatal(err)
		}
		if len(frame) > 0 && frame[0] == channel {
			text.Write(frame[1:])
		}
	}
}

func request() *cri.ExecRequest {
	return &cri.ExecRequest{ContainerId: "x", Cmd: []string{"true"}, Stdout: true}
}

// An address is good for a minute.
func TestAddressExpires(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, err := Listen(Options{Address: "127.0.0.1:0", Logger: slog.New(slog.DiscardHandler)})
		if err != nil {
			t.Fatal(err)
		}
		defer s.Close()
		for _, test := range []struct {
			after time.Duration
			good  bool
		}{{59 * time.Second, true}, {61 * time.Second, false}} {
			resp, err := s.Exec(request())
			if err != nil {
				t.Fatal(err)
			}
			time.Sleep(test.after)
			answer := httptest.NewRecorder()
			s.serve(answer, httptest.NewRequest(http.MethodPost, resp.GetUrl(), nil))
			if good := answer.Code != http.StatusNotFound; good != test.good {
				t.Errorf("after %v: status %d", test.after, answer.Code)
			}
		}
	})
}

func TestTooManyAddressesAreRefused(t *testing.T) {
	s, _ := run(t, Options{})
	var err error
	for i := 0; err == nil && i < 5000; i++ {
		_, err = s.Exec(request())
	}
	if !errors.Is(err, errdefs.ErrResourceExhausted) {
		t.Errorf("got %v, want ErrResourceExhausted", err)
	}
}

// The end of the server cuts what it serves, and waits for what that ran.
func TestEndWaitsForWhatRuns(t *testing.T) {
	begun := make(chan struct{}, 2)
	var over [2]bool
	s, end := run(t, Options{
		Exec: func(ctx context.Context, _ string, _ []string, _ pod.Streams) (int, error) {
			begun <- struct{}{}
			<-ctx.Done()
			time.Sleep(200 * time.Millisecond)
			over[0] = true
			return 0, ctx.Err()
		},
		Attach: func(ctx context.Context, _ string, _ pod.Streams) error {
			begun <- struct{}{}
			<-ctx.Done()
			time.Sleep(200 * time.Millisecond)
			over[1] = true
			return ctx.Err()
		},
	})
	exec, err := s.Exec(request())
	if err != nil {
		t.Fatal(err)
	}
	attach, err := s.Attach(&cri.AttachRequest{ContainerId: "x", Stdout: true})
	if err != nil {
		t.Fatal(err)
	}
	dialStream(t, exec.GetUrl(), nil)
	dialStream(t, attach.GetUrl(), nil)
	<-begun
	<-begun
	if err := end(); !errors.Is(err, context.Canceled) || over != [2]bool{true, true} {
		t.Errorf("Run returned %v; over: %v", err, over)
	}
}

// What was not asked for is not there, be it by WebSocket, which has all channels always.
func TestStreamsAreThoseAskedFor(t *testing.T) {
	got := make(chan pod.Streams, 1)
	s, _ := run(t, Options{Attach: func(_ context.Context, id string, streams pod.Streams) error {
		if id != "x" {
			t.Errorf("container %q", id)
		}
		got <- streams
		return nil
	}})
	for _, stdin := range []bool{false, true} {
		resp, err := s.Attach(&cri.AttachRequest{ContainerId: "x", Stdin: stdin, Stdout: true})
		if err != nil {
			t.Fatal(err)
		}
		dialStream(t, resp.GetUrl(), nil)
		if streams := <-got; (streams.Stdin != nil) != stdin {
			t.Errorf("stdin %t: %v", stdin, streams)
		}
	}
}

// An exit code is told as such, and a port-forward's failure names the port.
func TestFailuresAreTold(t *testing.T) {
	s, _ := run(t, Options{
		Exec:  func(context.Context, string, []string, pod.Streams) (int, error) { return 7, nil },
		Netns: func(string) (string, error) { return "", nil },
	})
	resp, err := s.Exec(request())
	if err != nil {
		t.Fatal(err)
	}
	if text := said(t, dialStream(t, resp.GetUrl(), nil), 3); !strings.Contains(text, `"reason":"ExitCode","message":"7"`) {
		t.Errorf("exit code 7: %s", text)
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	listener.Close()
	port := listener.Addr().(*net.TCPAddr).Port
	forward, err := s.PortForward(&cri.PortForwardRequest{PodSandboxId: "abc", Port: []int32{int32(port)}})
	if err != nil {
		t.Fatal(err)
	}
	text := said(t, dialStream(t, forward.GetUrl(), nil), 1)
	if !strings.Contains(text, fmt.Sprintf("port %d in sandbox abc", port)) || !strings.Contains(text, "connection refused") {
		t.Errorf("refused: %q", text)
	}
}

func TestTLS(t *testing.T) {
	pair, pool := certificate(t)
	s, _ := run(t, Options{
		TLS:  &tls.Config{Certificates: []tls.Certificate{pair}},
		Exec: func(context.Context, string, []string, pod.Streams) (int, error) { return 0, nil },
	})
	resp, err := s.Exec(request())
	if err != nil || !strings.HasPrefix(resp.GetUrl(), "https://127.0.0.1:") {
		t.Fatal(resp, err)
	}
	if text := said(t, dialStream(t, resp.GetUrl(), &tls.Config{RootCAs: pool}), 3); !strings.Contains(text, "Success") {
		t.Errorf("over TLS: %q", text)
	}
	old := &tls.Config{RootCAs: pool, MaxVersion: tls.VersionTLS11}
	if conn, err := tls.Dial("tcp", s.listener.Addr().String(), old); err == nil {
		conn.Close()
		t.Error("TLS 1.1 is spoken")
	}
	plain := connect(t, s)
	fmt.Fprint(plain, "GET / HTTP/1.1\r\nHost: x\r\n\r\n")
	answer, err := http.ReadResponse(bufio.NewReader(plain), nil)
	if err != nil || answer.StatusCode != http.StatusBadRequest {
		t.Errorf("without TLS: %v, %v", answer, err)
	}
}

// Tokens are of 48 random bits: none comes twice, and each digit has many values.
func TestAddressesCannotBeGuessed(t *testing.T) {
	seen := map[string]bool{}
	digits := [8]map[byte]bool{}
	for range 4 { // as there may be 1000 that are not used yet
		s, _ := run(t, Options{})
		for range 500 {
			resp, err := s.Exec(request())
			if err != nil {
				t.Fatal(err)
			}
			token := path.Base(resp.GetUrl())
			if len(token) != len(digits) || seen[token] {
				t.Fatalf("token %q, seen before: %t", token, seen[token])
			}
			seen[token] = true
			for i := range digits {
				if digits[i] == nil {
					digits[i] = map[byte]bool{}
				}
				digits[i][token[i]] = true
			}
		}
	}
	for i, values := range digits {
		if len(values) != 64 { // of 2000 tokens, that one value is missed has a chance below 1 in 10^10
			t.Errorf("digit %d has %d values, want 64", i, len(values))
		}
	}
}

func TestAddressThatIsTakenOrAnywhere(t *testing.T) {
	s, _ := run(t, Options{Address: "0.0.0.0:0", Exec: func(context.Context, string, []string, pod.Streams) (int, error) { return 0, nil }})
	resp, err := s.Exec(request())
	if err != nil || !strings.HasPrefix(resp.GetUrl(), "http://127.0.0.1:") {
		t.Fatal(resp, err)
	}
	dialStream(t, resp.GetUrl(), nil)
	_, err = Listen(Options{Address: s.listener.Addr().String()})
	if err == nil || !strings.Contains(err.Error(), "address already in use") {
		t.Errorf("a taken address: %v", err)
	}
}

func certificate(t *testing.T) (tls.Certificate, *x509.CertPool) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour), IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, IsCA: true, BasicConstraintsValid: true}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	parsed, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AddCert(parsed)
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, pool
}

func TestStreamsAreToldOfFromTheirBeginToTheirEnd(t *testing.T) {
	told := make(chan string, 2)
	serving := make(chan bool)
	s, _ := run(t, Options{
		Began: func(kind string) func() {
			told <- kind
			return func() { told <- "end of " + kind }
		},
		Exec: func(context.Context, string, []string, pod.Streams) (int, error) { <-serving; return 0, nil },
	})
	resp, err := s.Exec(request())
	if err != nil {
		t.Fatal(err)
	}
	dialStream(t, resp.GetUrl(), nil)
	if got := <-told; got != "exec" {
		t.Errorf("told %q first", got)
	}
	if len(told) != 0 {
		t.Errorf("told %q while it runs", <-told)
	}
	close(serving)
	if got := <-told; got != "end of exec" {
		t.Errorf("told %q last", got)
	}
}
