package e2e

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/net/websocket"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/mascri/mascri/internal/engine/enginetest"
	"github.com/mascri/mascri/internal/netns"
)

// newStreams is a bench whose pod goes at the test's end.
func newStreams(t *testing.T, version enginetest.Version) *bench {
	t.Helper()
	b := newBench(t, newNode(t, version, userConf()))
	t.Cleanup(func() {
		if b.daemon == nil { // a failed test's
			return
		}
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		if _, err := b.cri.RemovePodSandbox(ctx, &cri.RemovePodSandboxRequest{PodSandboxId: b.pod.id}); err != nil {
			t.Error(err)
		}
	})
	return b
}

// client is a crictl whose input and output a test holds in its hands.
type client struct {
	*exec.Cmd
	in  io.WriteCloser
	out *safeBuffer // both outputs
}

// safeBuffer is output that can be looked at while it grows.
type safeBuffer struct {
	mu   sync.Mutex // guards text
	text bytes.Buffer
}

func (b *safeBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.Write(p)
}

func (b *safeBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.String()
}

// stream starts a crictl, which ends with the test.
func (n *node) stream(t *testing.T, args ...string) *client {
	t.Helper()
	c := &client{Cmd: exec.Command(repo(t, "bin/crictl"), append([]string{"--runtime-endpoint", "unix://" + n.socket, "--timeout", "20s"}, args...)...), out: &safeBuffer{}}
	in, err := c.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	c.in, c.Stdout, c.Stderr = in, c.out, c.out
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Process.Kill(); _ = c.Wait() })
	return c
}

func (c *client) says(t *testing.T, text string) {
	t.Helper()
	for end := time.Now().Add(20 * time.Second); !strings.Contains(c.out.String(), text); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("%v does not say %q, but %q", c.Args, text, c.out)
		}
	}
}

// forwards returns the address that crictl port-forward listens on.
func (c *client) forwards(t *testing.T) string {
	t.Helper()
	c.says(t, " -> ")
	_, rest, _ := strings.Cut(c.out.String(), "Forwarding from ")
	address, _, _ := strings.Cut(rest, " ")
	return address
}

// vanishes kills the client as a crash would.
func (c *client) vanishes(t *testing.T) {
	t.Helper()
	if err := c.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = c.Wait()
}

// commands lists the command lines of the processes in a container, but for zombies.
func (c container) commands(t *testing.T) string {
	t.Helper()
	files, err := filepath.Glob("/proc/[0-9]*/cgroup")
	if err != nil {
		t.Fatal(err)
	}
	var lines []string
	for _, file := range files {
		if text, err := os.ReadFile(file); err != nil || !strings.Contains(string(text), c.id) {
			continue
		}
		if line, err := os.ReadFile(filepath.Dir(file) + "/cmdline"); err == nil && len(line) > 0 {
			lines = append(lines, strings.ReplaceAll(string(line), "\x00", " "))
		}
	}
	slices.Sort(lines)
	return strings.Join(lines, "\n")
}

// A user's own hands on a container.
func TestUserRunsCommands(t *testing.T) {
	bothEngines(t, func(t *testing.T, version enginetest.Version) {
		b := newStreams(t, version)
		c := b.runContainer(t, b.request("box", ""))
		const before = "sleep 1000 "
		within(t, "the container's process", func() bool { return c.commands(t) == before })
		if out := b.crictl(t, "exec", "-s", c.id, "sh", "-c", "echo hello"); out != "hello" {
			t.Errorf("exec -s: %q", out)
		}
		if out := b.crictl(t, "exec", c.id[:12], "sh", "-c", "echo hello"); out != "hello" {
			t.Errorf("exec: %q", out)
		}
		failing := b.stream(t, "exec", c.id, "sh", "-c", "echo out; echo err >&2; exit 7")
		if _ = failing.Wait(); !strings.Contains(failing.out.String(), "out\n") || !strings.Contains(failing.out.String(), "err\n") || !strings.Contains(failing.out.String(), "exit code 7") {
			t.Errorf("exit code 7: %q", failing.out)
		}
		missing := b.stream(t, "exec", c.id, "/bin/nothing")
		if err := missing.Wait(); err == nil || !strings.Contains(missing.out.String(), "/bin/nothing") || !strings.Contains(missing.out.String(), "no such file") {
			t.Errorf("missing command: %v, %q", err, missing.out)
		}
		cat := b.stream(t, "exec", "-i", c.id, "cat")
		fmt.Fprint(cat.in, "through cat")
		cat.says(t, "through cat")
		cat.in.Close()
		if err := cat.Wait(); err != nil {
			t.Errorf("after the end of input: %v", err)
		}
		within(t, "only the container's process", func() bool { return c.commands(t) == before })
		terminal := exec.Command("script", "-qec", "stty rows 33 cols 77; "+repo(t, "bin/crictl")+" --runtime-endpoint unix://"+b.socket+" exec -it "+c.id+" sh", "/dev/null")
		terminal.Stdin = strings.NewReader("until busybox stty size | busybox grep '33 77'; do busybox usleep 10000; done; exit 0\n")
		if out, err := terminal.CombinedOutput(); err != nil || !strings.Contains(string(out), "\n33 77") {
			t.Errorf("on a terminal: %v\n%s", err, out)
		}
	})
}

// ExecSync answers as the kubelet's probes need it.
func TestExecSync(t *testing.T) {
	bothEngines(t, func(t *testing.T, version enginetest.Version) {
		b := newStreams(t, version)
		c := b.runContainer(t, b.request("box", ""))
		const before = "sleep 1000 "
		within(t, "the container's process", func() bool { return c.commands(t) == before })
		ask := func(timeout int64, script string) (*cri.ExecSyncResponse, error) {
			return b.cri.ExecSync(t.Context(), &cri.ExecSyncRequest{ContainerId: c.id, Cmd: []string{"sh", "-c", script}, Timeout: timeout}, grpc.MaxCallRecvMsgSize(16<<20))
		}
		resp, err := ask(5, "echo out; echo err >&2; exit 3")
		if err != nil || string(resp.GetStdout()) != "out\n" || string(resp.GetStderr()) != "err\n" || resp.GetExitCode() != 3 {
			t.Errorf("%v, %v", resp, err)
		}
		began := time.Now()
		if _, err := ask(1, "trap '' TERM; (sleep 300; true) & sleep 300; true"); status.Code(err) != codes.DeadlineExceeded || time.Since(began) > 4*time.Second {
			t.Errorf("timeout of 1 s: after %v: %v", time.Since(began), err)
		}
		if after := c.commands(t); after != before {
			t.Errorf("after the timeout:\n%s", after)
		}
		if _, err := b.cri.ExecSync(t.Context(), &cri.ExecSyncRequest{ContainerId: c.id, Cmd: []string{"/bin/nothing"}}); status.Code(err) != codes.InvalidArgument || !strings.Contains(err.Error(), "/bin/nothing") {
			t.Errorf("missing command: %v", err)
		}
		resp, err = ask(0, "busybox dd if=/dev/zero bs=1M count=20 2>/dev/null; echo end >&2; exit 9")
		if got := len(resp.GetStdout()) + len(resp.GetStderr()); err != nil || resp.GetExitCode() != 9 || got > 16<<20 || got < 16<<20-64<<10 {
			t.Errorf("20 MiB: %d bytes, code %d, %v", got, resp.GetExitCode(), err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), 500*time.Millisecond)
		defer cancel()
		_, err = b.cri.ExecSync(ctx, &cri.ExecSyncRequest{ContainerId: c.id, Cmd: []string{"sleep", "300"}})
		if status.Code(err) != codes.DeadlineExceeded {
			t.Errorf("client that gives up: %v", err)
		}
		within(t, "only the container's process", func() bool { return c.commands(t) == before })
		b.stopContainer(t, c.id, 0)
		if _, err := ask(1, "true"); status.Code(err) != codes.FailedPrecondition {
			t.Errorf("stopped container: %v", err)
		}
	})
}

// What somebody attached types and reads is the container's, who goes on without them.
func TestUserAttaches(t *testing.T) {
	bothEngines(t, func(t *testing.T, version enginetest.Version) {
		b := newStreams(t, version)
		req := b.request("echo", "while read -r line; do echo got:$line; done; echo end")
		req.Config.Stdin = true
		c := b.runContainer(t, req)
		reader := b.stream(t, "attach", c.id)
		time.Sleep(300 * time.Millisecond)
		for i := range 2 {
			typist := b.stream(t, "attach", "-i", c.id)
			fmt.Fprintf(typist.in, "line%d\n", i)
			typist.says(t, fmt.Sprint("got:line", i))
			typist.vanishes(t)
		}
		reader.says(t, "got:line1")
		if now := b.look(t, c.id); now.status.GetState() != cri.ContainerState_CONTAINER_RUNNING {
			t.Errorf("%v", now.status)
		}
		once := b.request("once", "cat; echo end of input")
		once.Config.Stdin, once.Config.StdinOnce = true, true
		c = b.runContainer(t, once)
		only := b.stream(t, "attach", "-i", c.id)
		fmt.Fprintln(only.in, "hello")
		only.says(t, "hello")
		only.vanishes(t)
		if out := c.output(t); out != "hello\nend of input\n" {
			t.Errorf("after its only client left: %q", out)
		}
	})
}

// webSocket is a client that speaks v4.channel.k8s.io.
type webSocket struct{ *websocket.Conn }

func dialWebSocket(t *testing.T, address string) webSocket {
	t.Helper()
	config, err := websocket.NewConfig(strings.Replace(address, "http", "ws", 1), "http://localhost")
	if err != nil {
		t.Fatal(err)
	}
	config.Protocol = []string{"v4.channel.k8s.io"}
	conn, err := config.DialContext(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return webSocket{conn}
}

func (w webSocket) send(t *testing.T, channel byte, text string) {
	t.Helper()
	if err := websocket.Message.Send(w.Conn, append([]byte{channel}, text...)); err != nil {
		t.Error(err)
	}
}

// says reads until a channel has said text.
func (w webSocket) says(t *testing.T, channel byte, text string) {
	t.Helper()
	_ = w.SetReadDeadline(time.Now().Add(20 * time.Second))
	said := map[byte]string{}
	for !strings.Contains(said[channel], text) {
		var frame []byte
		if err := websocket.Message.Receive(w.Conn, &frame); err != nil {
			t.Fatalf("channel %d does not say %q: %v; %q", channel, text, err, said)
		}
		if len(frame) > 0 {
			said[frame[0]] += string(frame[1:])
		}
	}
}

// The channels of the WebSocket protocol for exec and attach.
const (
	wsStdin = iota
	wsStdout
	wsStderr
	wsError
	wsResize
)

func (n *node) webSocketExec(t *testing.T, req *cri.ExecRequest) webSocket {
	t.Helper()
	resp, err := n.cri.Exec(t.Context(), req)
	if err != nil {
		t.Fatal(err)
	}
	return dialWebSocket(t, resp.GetUrl())
}

func (n *node) webSocketAttach(t *testing.T, id string, stdin bool) webSocket {
	t.Helper()
	resp, err := n.cri.Attach(t.Context(), &cri.AttachRequest{ContainerId: id, Stdin: stdin, Stdout: true})
	if err != nil {
		t.Fatal(err)
	}
	return dialWebSocket(t, resp.GetUrl())
}

func (n *node) webSocketForward(t *testing.T, id string, port int) webSocket {
	t.Helper()
	resp, err := n.cri.PortForward(t.Context(), &cri.PortForwardRequest{PodSandboxId: id, Port: []int32{int32(port)}})
	if err != nil {
		t.Fatal(err)
	}
	return dialWebSocket(t, resp.GetUrl())
}

// All of it over WebSocket.
func TestStreamsOverWebSocket(t *testing.T) {
	bothEngines(t, func(t *testing.T, version enginetest.Version) {
		b := newStreams(t, version)
		req := b.request("echo", "while read -r line; do echo got:$line; done")
		req.Config.Stdin = true
		c := b.runContainer(t, req)
		run := b.webSocketExec(t, &cri.ExecRequest{ContainerId: c.id, Cmd: []string{"sh", "-c", "echo out; echo err >&2; exit 7"}, Stdout: true, Stderr: true})
		run.says(t, wsError, `"message":"7"`)
		echo := b.webSocketExec(t, &cri.ExecRequest{ContainerId: c.id, Cmd: []string{"cat"}, Stdin: true, Stdout: true})
		echo.send(t, wsStdin, "through cat")
		echo.says(t, wsStdout, "through cat")
		terminal := b.webSocketExec(t, &cri.ExecRequest{ContainerId: c.id, Cmd: []string{"sh", "-c", "while :; do busybox stty size; sleep 0.1; done"}, Stdin: true, Stdout: true, Tty: true})
		terminal.send(t, wsResize, `{"Width":77,"Height":33}`)
		terminal.says(t, wsStdout, "33 77")
		terminal.send(t, wsResize, `{"Width":88,"Height":44}`)
		terminal.says(t, wsStdout, "44 88")
		reader, typist := b.webSocketAttach(t, c.id, false), b.webSocketAttach(t, c.id, true)
		time.Sleep(300 * time.Millisecond)
		typist.send(t, wsStdin, "line\n")
		typist.says(t, wsStdout, "got:line")
		reader.says(t, wsStdout, "got:line")
		forward := b.webSocketForward(t, b.pod.id, lineServer(t, b.pod.netns))
		forward.send(t, 0, "ping\n")
		forward.says(t, 0, "ping\n")
		refused := b.webSocketForward(t, b.pod.id, 1)
		refused.says(t, 1, "connection refused")
	})
}

// lineServer sends back each line.
func lineServer(t *testing.T, path string) (port int) {
	return serve(t, path, "127.0.0.1:0", func(c net.Conn) {
		for lines := bufio.NewScanner(c); lines.Scan(); {
			fmt.Fprintln(c, lines.Text())
		}
	})
}

// A port of a pod's loopback is reached from the node, as is one of the node's by a pod
// on its network.
func TestUserForwardsPorts(t *testing.T) {
	bothEngines(t, func(t *testing.T, version enginetest.Version) {
		b := newStreams(t, version)
		n, s := b.node, b.pod
		hostConfig := config("host")
		hostConfig.Linux = &cri.LinuxPodSandboxConfig{SecurityContext: &cri.LinuxSandboxSecurityContext{NamespaceOptions: &cri.NamespaceOption{Network: cri.NamespaceMode_NODE}}}
		host := n.runPod(t, hostConfig)
		defer n.removePod(t, host.id)
		four := echoServer(t, s.netns, "127.0.0.1:0")
		six := echoServer(t, s.netns, "[::1]:0")
		node := echoServer(t, "", "127.0.0.1:0")
		for _, test := range []struct {
			name, pod string
			port      int
		}{{"IPv4", s.id, four}, {"IPv6", s.id, six}, {"host network", host.id, node}} {
			forward := n.stream(t, "port-forward", test.pod, ":"+strconv.Itoa(test.port))
			local := forward.forwards(t)
			for i := range 3 {
				if got := converse(t, local); got != "ping and more" {
					t.Errorf("%s, connection %d: %q", test.name, i, got)
				}
			}
			forward.vanishes(t)
		}
		refused := n.stream(t, "port-forward", s.id, ":1")
		converse(t, refused.forwards(t))
		refused.says(t, "connection refused")
		_, err := n.cri.PortForward(t.Context(), &cri.PortForwardRequest{PodSandboxId: s.id, Port: []int32{80, 65536}})
		if status.Code(err) != codes.InvalidArgument || !strings.Contains(err.Error(), "port[1]") {
			t.Errorf("port 65536: %v", err)
		}
	})
}

// echoServer sends back what it gets, once the client said all of it.
func echoServer(t *testing.T, path, address string) (port int) {
	return serve(t, path, address, func(c net.Conn) {
		text, _ := io.ReadAll(c)
		_, _ = c.Write(text)
	})
}

// serve answers connections in the network namespace at path, "" for this one.
func serve(t *testing.T, path, address string, answer func(net.Conn)) (port int) {
	t.Helper()
	var listener net.Listener
	listen := func() (err error) { listener, err = net.Listen("tcp", address); return err }
	var err error
	if path == "" {
		err = listen()
	} else {
		err = netns.At(path, listen)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { listener.Close() })
	go func() {
		for {
			c, err := listener.Accept()
			if err != nil {
				return
			}
			go func() { defer c.Close(); answer(c) }()
		}
	}()
	tcp, _ := listener.Addr().(*net.TCPAddr)
	return tcp.Port
}

// converse says something, closes its half, and returns the answer.
func converse(t *testing.T, address string) string {
	t.Helper()
	c, err := net.DialTimeout("tcp", address, 10*time.Second)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(10 * time.Second))
	fmt.Fprint(c, "ping and more")
	if tcp, ok := c.(*net.TCPConn); ok {
		_ = tcp.CloseWrite()
	}
	text, _ := io.ReadAll(c) // a connection that is cut answers nothing
	return string(text)
}

// An address is good for one connection.
func TestStreamAddressIsGoodOnce(t *testing.T) {
	b := newStreams(t, enginetest.Engine28)
	c := b.runContainer(t, b.request("box", ""))
	resp, err := b.cri.Exec(t.Context(), &cri.ExecRequest{ContainerId: c.id, Cmd: []string{"true"}, Stdout: true})
	if err != nil || !strings.HasPrefix(resp.GetUrl(), "http://127.0.0.1:") {
		t.Fatal(resp, err)
	}
	var codes []int
	for range 2 {
		answer, err := http.Get(resp.GetUrl())
		if err != nil {
			t.Fatal(err)
		}
		answer.Body.Close()
		codes = append(codes, answer.StatusCode)
	}
	if codes[0] == http.StatusNotFound || codes[1] != http.StatusNotFound {
		t.Errorf("the same address twice: %v", codes)
	}
}

// usage is what the daemon and the engine hold.
func (n *node) usage(t *testing.T, c container) map[string]int {
	t.Helper()
	fds, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", n.daemon.Process.Pid))
	if err != nil {
		t.Fatal(err)
	}
	processes, err := filepath.Glob("/proc/[0-9]*")
	if err != nil {
		t.Fatal(err)
	}
	var held int
	if text := n.docker(t, "inspect", "-f", "{{len .ExecIDs}}", c.id); text != "" {
		held, _ = strconv.Atoi(text)
	}
	return map[string]int{"fds": len(fds), "processes": len(processes), "the engine's execs": held}
}

// Nothing is left of many commands, nor of clients that vanish in the middle of all kinds
// of streams. MASCRI_TEST_EXECS sets how many commands run.
func TestStreamsLeaveNothing(t *testing.T) {
	execs := 1000
	if text := os.Getenv("MASCRI_TEST_EXECS"); text != "" {
		var err error
		if execs, err = strconv.Atoi(text); err != nil {
			t.Fatal(err)
		}
	}
	bothEngines(t, func(t *testing.T, version enginetest.Version) {
		b := newStreams(t, version)
		req := b.request("box", "trap : USR1; while :; do sleep 1000 & wait; done") // reaps
		req.Config.Stdin = true
		c := b.runContainer(t, req)
		heard := make(chan struct{}, 100)
		silent := serve(t, b.pod.netns, "127.0.0.1:0", func(c net.Conn) {
			_, _ = c.Read(make([]byte, 1))
			heard <- struct{}{}
			_, _ = io.Copy(io.Discard, c)
		})
		ask := func() {
			resp, err := b.cri.ExecSync(t.Context(), &cri.ExecSyncRequest{ContainerId: c.id, Cmd: []string{"echo", "x"}, Timeout: 60})
			if err != nil || string(resp.GetStdout()) != "x\n" || resp.GetExitCode() != 0 {
				t.Errorf("%v, %v", resp, err)
			}
		}
		shell := func(script string, stdin bool) *cri.ExecRequest {
			return &cri.ExecRequest{ContainerId: c.id, Cmd: []string{"sh", "-c", "echo on; " + script}, Stdin: stdin, Stdout: true}
		}
		vanish := func() {
			for range 5 {
				quiet := b.stream(t, "exec", c.id, "sh", "-c", "echo on; sleep 300; true")
				busy := b.stream(t, "exec", c.id, "sh", "-c", "while :; do echo on; done")
				full := b.stream(t, "exec", "-i", c.id, "sh", "-c", "echo on; sleep 300; true")
				attached := b.stream(t, "attach", "-i", c.id)
				forward := b.stream(t, "port-forward", b.pod.id, ":"+strconv.Itoa(silent))
				sockets := []webSocket{
					b.webSocketExec(t, shell("sleep 300; true", false)), b.webSocketExec(t, shell("while :; do echo on; done", false)),
					b.webSocketExec(t, shell("sleep 300; true", true)), b.webSocketAttach(t, c.id, true), b.webSocketForward(t, b.pod.id, silent),
				}
				for _, client := range []*client{quiet, busy, full} {
					client.says(t, "on")
				}
				for _, socket := range sockets[:3] {
					socket.says(t, wsStdout, "on")
				}
				// Input that the command does not take hides the client's end.
				go func() { _, _ = full.in.Write(make([]byte, 8<<20)) }()
				flood := sockets[2]
				_ = flood.SetWriteDeadline(time.Now().Add(500 * time.Millisecond))
				for range 100 {
					if websocket.Message.Send(flood.Conn, make([]byte, 100_000)) != nil { // channel 0 is stdin
						break
					}
				}
				idle, err := net.Dial("tcp", forward.forwards(t))
				if err != nil {
					t.Fatal(err)
				}
				fmt.Fprint(idle, "x")
				sockets[4].send(t, 0, "x")
				<-heard
				<-heard
				for _, client := range []*client{quiet, busy, full, attached, forward} {
					client.vanishes(t)
				}
				for _, socket := range sockets {
					socket.Close()
				}
				idle.Close()
			}
		}
		const processes = "sh -c trap : USR1; while :; do sleep 1000 & wait; done \nsleep 1000 "
		gone := func() {
			t.Helper()
			for end := time.Now().Add(40 * time.Second); c.commands(t) != processes; time.Sleep(50 * time.Millisecond) {
				if time.Now().After(end) {
					t.Fatalf("in the container are\n%s\nand should be\n%s\nwhile the daemon does\n%s", c.commands(t), processes, strings.Join(b.stacks(t), "\n\n"))
				}
			}
		}
		gone()
		ask()
		vanish()
		gone()
		time.Sleep(12 * time.Second) // connections that linger
		before := b.usage(t, c)
		began := time.Now()
		var group sync.WaitGroup
		for range 4 {
			group.Go(func() {
				for range execs / 4 {
					ask()
				}
			})
		}
		group.Wait()
		t.Logf("%d execs, four at a time: %v each", execs, time.Since(began)/time.Duration(max(execs, 1)))
		vanish()
		gone()
		var now map[string]int
		within(t, fmt.Sprintf("what is held is as before, %v", before), func() bool {
			now = b.usage(t, c)
			for what, count := range now {
				if extra := count - before[what]; extra > 3 || extra > 0 && what != "fds" { // idle connections to the engine come and go
					return false
				}
			}
			return true
		})
		t.Logf("before %v, now %v", before, now)
		time.Sleep(2 * time.Second) // spdystream's last look at a closed connection
		for _, stack := range b.stacks(t) {
			serves := strings.Contains(stack, "internal/stream.(*Server).Run(") || strings.Contains(stack, "internal/stream.watchedListener.Accept")
			for _, part := range []string{"internal/stream.", "cri-streaming", "k8s.io/streaming", "spdystream", "internal/engine.(*line)", "internal/engine.(*execution)"} {
				if strings.Contains(stack, part) && !serves {
					t.Errorf("a goroutine is left:\n%s", stack)
					break
				}
			}
		}
		b.start(t)
	})
}

// stacks ends the daemon and returns those of its goroutines.
func (n *node) stacks(t *testing.T) []string {
	t.Helper()
	if err := n.daemon.Process.Signal(syscall.SIGQUIT); err != nil {
		t.Fatal(err)
	}
	n.wait(t)
	log, err := os.ReadFile(n.logFile)
	if err != nil {
		t.Fatal(err)
	}
	_, dump, _ := strings.Cut(string(log), "SIGQUIT: quit")
	stacks := strings.Split(dump, "\n\n")
	if len(stacks) < 10 {
		t.Fatalf("the daemon told of %d goroutines", len(stacks))
	}
	return stacks
}
