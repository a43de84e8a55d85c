package stream

import (
	"bufio"
	"context"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	cri "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/mascri/mascri/internal/pod"
)

// Whatever a client asks for without an address that was given out, nothing is run, and it is
// refused.
func FuzzRequestWithoutToken(f *testing.F) {
	for _, path := range []string{"/exec/AAAAAAAA", "/attach/x", "/portforward/x", "/exec/", "/", "/exec/../exec/x", "//exec//x", "/exec/x?a=b", "*", "/cri/exec/x"} {
		for _, head := range []string{"", "Connection: Upgrade\r\nUpgrade: SPDY/3.1\r\nX-Stream-Protocol-Version: v4.channel.k8s.io\r\n",
			"Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Protocol: v4.channel.k8s.io\r\n"} {
			for _, method := range []string{"GET", "POST", "PRI"} {
				f.Add(method+" "+path+" HTTP/1.1\r\nHost: x\r\n"+head+"\r\n", uint8(0))
			}
		}
	}
	f.Fuzz(func(t *testing.T, text string, kind uint8) {
		r, err := http.ReadRequest(bufio.NewReader(strings.NewReader(text)))
		if err != nil {
			t.Skip("net/http refuses it")
		}
		run := false
		s, err := Listen(Options{
			Address: "127.0.0.1:0", Connections: 1, Logger: slog.New(slog.DiscardHandler),
			Exec: func(context.Context, string, []string, pod.Streams) (int, error) { run = true; return 0, nil },
			Attach: func(context.Context, string, pod.Streams) error {
				run = true
				return nil
			},
			Netns: func(string) (string, error) { run = true; return "", io.EOF },
		})
		if err != nil {
			t.Fatal(err)
		}
		defer s.Close()
		var given interface{ GetUrl() string } // an address that the client does not know
		switch kind % 3 {
		case 0:
			given, err = s.Exec(request())
		case 1:
			given, err = s.Attach(&cri.AttachRequest{ContainerId: "c", Stdout: true})
		case 2:
			given, err = s.PortForward(&cri.PortForwardRequest{PodSandboxId: "p", Port: []int32{80}})
		}
		if err != nil {
			t.Fatal(err)
		}
		answer := httptest.NewRecorder()
		s.serve(answer, r)
		if run || answer.Code < 300 {
			t.Errorf("%q, with %s given out, was answered %d; run: %t", text, given.GetUrl(), answer.Code, run)
		}
	})
}
