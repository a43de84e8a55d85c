package e2e

import (
	"context"
	"fmt"
	"net"
	"os"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/mascri/mascri/internal/engine/enginetest"
)

// another is a connection of its own to the daemon.
func (n *node) another(t *testing.T) *grpc.ClientConn {
	t.Helper()
	conn, err := grpc.NewClient("unix://"+n.socket, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return conn
}

// held is what the daemon holds: open files, and resident memory in MB.
func (n *node) held(t *testing.T) (fds, megabytes int) {
	t.Helper()
	dir := fmt.Sprintf("/proc/%d/", n.daemon.Process.Pid)
	open, err := os.ReadDir(dir + "fd")
	if err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(dir + "status")
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(text), "VmRSS:")
	kb, err := strconv.Atoi(strings.Fields(rest)[0])
	if err != nil {
		t.Fatal(err)
	}
	return len(open), kb / 1024
}

// goroutines is how many the daemon has.
func (n *node) goroutines(t *testing.T) int {
	t.Helper()
	return int(n.scrape(t)["go_goroutines"])
}

// pulse asks for Status all the time until stop is called, which returns how often that was
// and the longest that an answer took. An answer that fails is the test's failure.
func (n *node) pulse(t *testing.T) (stop func() (asked int, longest time.Duration)) {
	t.Helper()
	client := cri.NewRuntimeServiceClient(n.another(t))
	ended, done := make(chan struct{}), make(chan struct{})
	var asked int
	var longest time.Duration
	go func() {
		defer close(done)
		for {
			began := time.Now()
			ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
			if _, err := client.Status(ctx, &cri.StatusRequest{}); err != nil {
				t.Errorf("Status meanwhile: %v", err)
			}
			cancel()
			asked++
			longest = max(longest, time.Since(began))
			select {
			case <-ended:
				return
			case <-time.After(20 * time.Millisecond):
			}
		}
	}()
	return func() (int, time.Duration) { close(ended); <-done; return asked, longest }
}

// gone waits until the daemon holds no more open files than before, but for some that come
// and go.
func (n *node) gone(t *testing.T, before int, within time.Duration) {
	t.Helper()
	var now int
	for end := time.Now().Add(within); time.Now().Before(end); time.Sleep(100 * time.Millisecond) {
		if now, _ = n.held(t); now <= before+5 {
			return
		}
	}
	t.Errorf("%d files are open, %d were before", now, before)
}

// 10,000 RPCs at the same moment, by 20 clients, end in answers: what was asked for, or that it
// was too much at once. Meanwhile Status is answered, and afterwards nothing is left of it.
func TestTenThousandRPCsAtOnce(t *testing.T) {
	b := newBench(t, newNode(t, enginetest.Engine28, userConf(), "--metrics-address=127.0.0.1:0"))
	c := b.runContainer(t, b.request("box", ""))
	calls := []func(ctx context.Context, r cri.RuntimeServiceClient, i cri.ImageServiceClient, number int) error{
		func(ctx context.Context, r cri.RuntimeServiceClient, _ cri.ImageServiceClient, _ int) error {
			_, err := r.ListPodSandbox(ctx, &cri.ListPodSandboxRequest{})
			return err
		},
		func(ctx context.Context, r cri.RuntimeServiceClient, _ cri.ImageServiceClient, _ int) error {
			_, err := r.ListContainers(ctx, &cri.ListContainersRequest{})
			return err
		},
		func(ctx context.Context, r cri.RuntimeServiceClient, _ cri.ImageServiceClient, _ int) error {
			_, err := r.ContainerStatus(ctx, &cri.ContainerStatusRequest{ContainerId: c.id, Verbose: true})
			return err
		},
		func(ctx context.Context, r cri.RuntimeServiceClient, _ cri.ImageServiceClient, _ int) error {
			_, err := r.PodSandboxStatus(ctx, &cri.PodSandboxStatusRequest{PodSandboxId: b.pod.id})
			return err
		},
		func(ctx context.Context, r cri.RuntimeServiceClient, _ cri.ImageServiceClient, _ int) error {
			_, err := r.ListContainerStats(ctx, &cri.ListContainerStatsRequest{})
			return err
		},
		func(ctx context.Context, _ cri.RuntimeServiceClient, i cri.ImageServiceClient, number int) error {
			if number%20 > 0 { // the engine is asked: some is enough
				return nil
			}
			_, err := i.ImageStatus(ctx, &cri.ImageStatusRequest{Image: &cri.ImageSpec{Image: b.image}})
			return err
		},
		func(ctx context.Context, r cri.RuntimeServiceClient, _ cri.ImageServiceClient, number int) error {
			if number%100 > 0 {
				_, err := r.Version(ctx, &cri.VersionRequest{})
				return err
			}
			_, err := r.UpdateContainerResources(ctx, &cri.UpdateContainerResourcesRequest{ContainerId: c.id, Linux: &cri.LinuxContainerResources{CpuShares: int64(100 + number%7)}})
			return err
		},
		func(ctx context.Context, r cri.RuntimeServiceClient, _ cri.ImageServiceClient, number int) error {
			if number%1000 > 0 {
				_, err := r.Status(ctx, &cri.StatusRequest{Verbose: true})
				return err
			}
			resp, err := r.RunPodSandbox(ctx, &cri.RunPodSandboxRequest{Config: config(fmt.Sprint("load-", number))})
			if err != nil {
				return err
			}
			_, err = r.RemovePodSandbox(context.WithoutCancel(ctx), &cri.RemovePodSandboxRequest{PodSandboxId: resp.GetPodSandboxId()})
			return err
		},
	}
	const clients, each = 20, 500
	goroutines := b.goroutines(t) // by a connection that stays
	fds, memory := b.held(t)
	stop := b.pulse(t)
	begin := make(chan struct{})
	var mu sync.Mutex
	answers := map[codes.Code]int{}
	var group sync.WaitGroup
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	defer cancel()
	conns := make([]*grpc.ClientConn, clients)
	for i := range conns {
		conns[i] = b.another(t)
		r, images := cri.NewRuntimeServiceClient(conns[i]), cri.NewImageServiceClient(conns[i])
		for j := range each {
			number := i*each + j
			group.Go(func() {
				<-begin
				err := calls[number%len(calls)](ctx, r, images, number/len(calls))
				mu.Lock()
				defer mu.Unlock()
				answers[status.Code(err)]++
				if code := status.Code(err); code != codes.OK && code != codes.ResourceExhausted && answers[code] < 5 {
					t.Errorf("RPC %d: %v", number, err)
				}
			})
		}
	}
	close(begin)
	group.Wait()
	_, most := b.held(t)
	asked, longest := stop()
	t.Logf("answers: %v; Status was asked %d times, and took %v at most; memory %d MB, before %d MB", answers, asked, longest, most, memory)
	if answers[codes.OK] < clients*each/10 {
		t.Errorf("answers %v", answers)
	}
	if most > memory+1000 { // with the race detector: without it, some 150
		t.Errorf("the daemon has %d MB, and had %d MB before", most, memory)
	}
	for _, conn := range conns {
		conn.Close()
	}
	b.gone(t, fds, time.Minute)
	within(t, fmt.Sprintf("no more goroutines than the %d before, but for some that come and go", goroutines), func() bool {
		return b.goroutines(t) <= goroutines+5
	})
	t.Logf("goroutines %d, before %d", b.goroutines(t), goroutines)
	b.wantWhole(t, 1)
	b.removePod(t, b.pod.id)
	b.wantWhole(t, 0)
}

// streamingAt returns the address of the streaming server.
func (b *bench) streamingAt(t *testing.T, c container) string {
	t.Helper()
	resp, err := b.cri.Exec(t.Context(), &cri.ExecRequest{ContainerId: c.id, Cmd: []string{"true"}, Stdout: true})
	if err != nil {
		t.Fatal(err)
	}
	return strings.Split(strings.TrimPrefix(resp.GetUrl(), "http://"), "/")[0]
}

// Clients that connect and say nothing, or only half of something, or ask and never read, are
// left to themselves: the daemon answers others, and lets go of them.
func TestClientsThatDoNotSendOrRead(t *testing.T) {
	b := newBench(t, newNode(t, enginetest.Engine28, userConf(), "--metrics-address=127.0.0.1:0"))
	c := b.runContainer(t, b.request("box", ""))
	streaming := b.streamingAt(t, c)
	metrics := b.metricsAt(t)
	time.Sleep(time.Second)
	fds, memory := b.held(t)
	stop := b.pulse(t)
	began := time.Now()

	var open []net.Conn
	dial := func(network, address string, say ...string) net.Conn {
		conn, err := net.Dial(network, address)
		if err != nil {
			t.Fatal(err)
		}
		open = append(open, conn)
		for _, text := range say {
			_ = conn.SetWriteDeadline(time.Now().Add(time.Second))
			_, _ = conn.Write([]byte(text)) // it may be closed already
		}
		return conn
	}
	for range 100 {
		dial("unix", b.socket)
		dial("unix", b.socket, http2.ClientPreface[:10])
		dial("unix", b.socket, "GET / HTTP/1.1\r\n")
		dial("tcp", streaming)
		dial("tcp", streaming, "GET /exec/x HTTP/1.1\r\nHost: x\r\nA: ")
		dial("tcp", streaming, "GET /exec/x HTTP/1.1\r\nHost: x\r\n\r\n") // answered, and then silent
		dial("tcp", streaming, "POST /exec/x HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000\r\n\r\nhalf")
	}
	for range 30 {
		dial("tcp", metrics)
	}
	for range 50 { // headers without an end, and requests whose answers nobody reads
		conn := dial("unix", b.socket, http2.ClientPreface)
		framer := http2.NewFramer(conn, conn)
		_ = framer.WriteSettings()
		_ = framer.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: headers("ListPodSandbox")})
		conn = dial("unix", b.socket, http2.ClientPreface)
		framer = http2.NewFramer(conn, conn)
		_ = framer.WriteSettings()
		for i := range 200 {
			id := uint32(2*i + 1)
			if framer.WriteHeaders(http2.HeadersFrameParam{StreamID: id, BlockFragment: headers("ListPodSandbox"), EndHeaders: true}) != nil {
				break
			}
			if framer.WriteData(id, true, make([]byte, 5)) != nil {
				break
			}
		}
	}
	// Clients whose connection is well, and who take nothing from their streams.
	ctx, leave := context.WithCancel(t.Context())
	defer leave()
	idle := b.another(t)
	client := cri.NewRuntimeServiceClient(idle)
	for range 100 {
		if _, err := client.GetContainerEvents(ctx, &cri.GetEventsRequest{}); err != nil {
			t.Fatal(err)
		}
		if _, err := client.StreamContainers(ctx, &cri.StreamContainersRequest{}); err != nil {
			t.Fatal(err)
		}
	}
	// Output that nobody reads.
	for range 5 {
		open = append(open, b.webSocketExec(t, &cri.ExecRequest{ContainerId: c.id, Cmd: []string{"sh", "-c", "while :; do echo xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx; done"}, Stdout: true}))
	}
	for i := range 3 { // what the others do goes on
		b.removePod(t, b.runPod(t, config(fmt.Sprint("other-", i))).id)
	}
	var most int
	for end := began.Add(70 * time.Second); time.Now().Before(end); time.Sleep(500 * time.Millisecond) {
		now, megabytes := b.held(t)
		most = max(most, megabytes)
		if now <= fds+20 { // the client that reads nothing, and five with output
			break
		}
	}
	if now, _ := b.held(t); now > fds+20 {
		t.Errorf("after %v %d files are open, before there were %d", time.Since(began), now, fds)
	}
	asked, longest := stop()
	t.Logf("after %v it had let go of %d connections; Status was asked %d times, and took %v at most; memory %d MB, before %d MB", time.Since(began), len(open), asked, longest, most, memory)
	if most > memory+1000 { // with the race detector
		t.Errorf("the daemon has %d MB, and had %d MB before", most, memory)
	}
	leave()
	idle.Close()
	for _, conn := range open {
		conn.Close()
	}
	b.gone(t, fds, 30*time.Second)
	within(t, "the commands ended with their clients", func() bool { return c.commands(t) == "sleep 1000 " })
	b.removePod(t, b.pod.id)
	b.wantWhole(t, 0)
}

// headers are those of a gRPC request.
func headers(rpc string) []byte {
	var b strings.Builder
	encoder := hpack.NewEncoder(&b)
	for _, f := range [][2]string{
		{":method", "POST"}, {":scheme", "http"}, {":path", "/runtime.v1.RuntimeService/" + rpc}, {":authority", "localhost"},
		{"content-type", "application/grpc"}, {"te", "trailers"},
	} {
		_ = encoder.WriteField(hpack.HeaderField{Name: f[0], Value: f[1]})
	}
	return []byte(b.String())
}
