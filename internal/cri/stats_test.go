package cri_test

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/containerd/errdefs"
	"github.com/google/go-cmp/cmp"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/test/bufconn"
	"google.golang.org/protobuf/testing/protocmp"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/mascri/mascri/internal/cri"
	"github.com/mascri/mascri/internal/engine/enginetest"
	"github.com/mascri/mascri/internal/health"
	"github.com/mascri/mascri/internal/pod"
)

// shelf is an index that holds what it is given. It is for RPCs that only read.
type shelf struct {
	sandboxes  []pod.Sandbox
	containers []pod.Container
	changes    chan pod.Change
	stopped    atomic.Int32 // how many have ceased to watch
}

func (s *shelf) Synced() <-chan struct{} {
	synced := make(chan struct{})
	close(synced)
	return synced
}
func (s *shelf) Refresh(context.Context, string) error { return nil }
func (s *shelf) Inspect(_ context.Context, id string) (pod.Sandbox, error) {
	return s.Sandbox(id)
}
func (s *shelf) Removed(string)                     {}
func (s *shelf) Hide(string) func()                 { return func() {} }
func (s *shelf) Sandboxes() []pod.Sandbox           { return s.sandboxes }
func (s *shelf) Containers() []pod.Container        { return s.containers }
func (s *shelf) Complete() bool                     { return true }
func (s *shelf) Drift() uint64                      { return 0 }
func (s *shelf) Watch() (<-chan pod.Change, func()) { return s.changes, func() { s.stopped.Add(1) } }

func (s *shelf) Sandbox(id string) (pod.Sandbox, error) {
	if i := slices.IndexFunc(s.sandboxes, func(sandbox pod.Sandbox) bool { return sandbox.ID == id }); i >= 0 {
		return s.sandboxes[i], nil
	}
	return pod.Sandbox{}, errdefs.ErrNotFound.WithMessage("sandbox " + id)
}

func (s *shelf) Container(id string) (pod.Container, error) {
	if i := slices.IndexFunc(s.containers, func(c pod.Container) bool { return c.ID == id }); i >= 0 {
		return s.containers[i], nil
	}
	return pod.Container{}, errdefs.ErrNotFound.WithMessage("container " + id)
}

// serveShelf serves what index holds, and what usage tells of it.
func serveShelf(t testing.TB, index cri.Index, usage cri.Usage) runtimeapi.RuntimeServiceClient {
	t.Helper()
	log := slog.New(slog.DiscardHandler)
	engine := enginetest.NewFake(t, instance)
	server := cri.New(cri.Options{
		Engine: engine, Network: newFakeNetwork(engine), Index: index, Usage: usage, Health: health.New(engine, log), Logger: log,
		FilesDir: t.TempDir() + "/sandboxes", UpdatesDir: t.TempDir() + "/updates", Instance: instance, Logs: &fakeLogs{}, Limits: &fakeLimits{}, Births: &fakeBirths{},
	})
	listener := bufconn.Listen(1 << 20)
	grpcServer := grpc.NewServer(grpc.UnaryInterceptor(server.Unary), grpc.StreamInterceptor(server.Stream))
	server.Register(grpcServer)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{}, 2)
	go func() { _ = server.Run(ctx); done <- struct{}{} }()
	go func() { _ = grpcServer.Serve(listener); done <- struct{}{} }()
	conn, err := grpc.NewClient("passthrough:///bufconn", grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) { return listener.DialContext(ctx) }))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		conn.Close()
		grpcServer.Stop()
		cancel()
		<-done
		<-done
	})
	return runtimeapi.NewRuntimeServiceClient(conn)
}

// fakeUsage knows what some use.
type fakeUsage struct {
	containers map[string]pod.ContainerUsage
	pods       map[string]pod.SandboxUsage
	details    map[string]pod.ContainerDetails
	network    *pod.NetworkUsage // of every sandbox
}

func (u fakeUsage) Container(c pod.Container) pod.ContainerUsage { return u.containers[c.ID] }

func (u fakeUsage) Details(c pod.Container) pod.ContainerDetails { return u.details[c.ID] }
func (u fakeUsage) Network(*pod.Attachment) *pod.NetworkUsage    { return u.network }

// Pod counts a process for each container that it is told of.
func (u fakeUsage) Pod(sandbox pod.Sandbox, _ *pod.Attachment, containers []pod.Container) pod.SandboxUsage {
	usage := u.pods[sandbox.ID]
	usage.Processes += uint64(len(containers))
	return usage
}

func shelved(sandbox, id string, labels map[string]string) pod.Container {
	return pod.Container{ID: id, Running: true, PID: 1, Fixed: pod.Fixed{SandboxID: sandbox, Config: &runtimeapi.ContainerConfig{
		Metadata: &runtimeapi.ContainerMetadata{Name: "name-" + id}, Image: &runtimeapi.ImageSpec{Image: "busybox"}, Labels: labels, Annotations: map[string]string{"note": id},
	}}}
}

func number(n uint64) *runtimeapi.UInt64Value { return &runtimeapi.UInt64Value{Value: n} }

var (
	readAt   = time.Unix(1700000000, 5)
	webUsage = pod.ContainerUsage{
		Usage: &pod.Usage{
			At:  readAt,
			CPU: &pod.CPUUsage{Total: 3 * time.Second, Rate: new(uint64), Pressure: &pod.Pressure{Some: pod.Stall{Total: time.Millisecond, Avg10: 1, Avg60: 2, Avg300: 3}}},
			Memory: &pod.MemoryUsage{
				Used: 1000, InactiveFile: 300, RSS: 200, Limit: ptr[uint64](1500), PageFaults: 7, MajorPageFaults: 6,
				Swap: ptr[uint64](50), SwapLimit: ptr[uint64](40), Pressure: &pod.Pressure{Full: &pod.Stall{Total: time.Second}},
			},
			IO: &pod.Pressure{},
		},
		Layer: &pod.LayerUsage{Filesystem: pod.Filesystem{MountPoint: "/var", UsedBytes: 4096, UsedInodes: 2}, At: readAt},
	}
)

func ptr[T any](v T) *T { return &v }

// wantWeb is webUsage as the CRI says it.
func wantWeb() *runtimeapi.ContainerStats {
	at := readAt.UnixNano()
	return &runtimeapi.ContainerStats{
		Attributes: &runtimeapi.ContainerAttributes{
			Id: "web", Metadata: &runtimeapi.ContainerMetadata{Name: "name-web"}, Labels: map[string]string{"app": "web"}, Annotations: map[string]string{"note": "web"},
		},
		Cpu: &runtimeapi.CpuUsage{Timestamp: at, UsageCoreNanoSeconds: number(3e9), UsageNanoCores: number(0), Psi: &runtimeapi.PsiStats{
			Some: &runtimeapi.PsiData{Total: 1e6, Avg10: 1, Avg60: 2, Avg300: 3},
		}},
		Memory: &runtimeapi.MemoryUsage{
			Timestamp: at, WorkingSetBytes: number(700), AvailableBytes: number(800), UsageBytes: number(1000), RssBytes: number(200), PageFaults: number(7), MajorPageFaults: number(6),
			Psi: &runtimeapi.PsiStats{Some: &runtimeapi.PsiData{}, Full: &runtimeapi.PsiData{Total: 1e9}},
		},
		Swap:          &runtimeapi.SwapUsage{Timestamp: at, SwapUsageBytes: number(50), SwapAvailableBytes: number(0)},
		Io:            &runtimeapi.IoUsage{Timestamp: at, Psi: &runtimeapi.PsiStats{Some: &runtimeapi.PsiData{}}},
		WritableLayer: &runtimeapi.FilesystemUsage{Timestamp: at, FsId: &runtimeapi.FilesystemIdentifier{Mountpoint: "/var"}, UsedBytes: number(4096), InodesUsed: number(2)},
	}
}

func TestContainerStats(t *testing.T) {
	stopped := shelved("pod1", "db", nil)
	stopped.Running = false
	client := serveShelf(t, &shelf{containers: []pod.Container{shelved("pod1", "web", map[string]string{"app": "web"}), stopped}},
		fakeUsage{containers: map[string]pod.ContainerUsage{"web": webUsage}})
	resp, err := client.ContainerStats(t.Context(), &runtimeapi.ContainerStatsRequest{ContainerId: "web"})
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(wantWeb(), resp.GetStats(), protocmp.Transform()); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
	resp, err = client.ContainerStats(t.Context(), &runtimeapi.ContainerStatsRequest{ContainerId: "db"})
	if err != nil || resp.GetStats().GetAttributes().GetId() != "db" || resp.GetStats().GetCpu() != nil {
		t.Errorf("of a stopped container: %v, %v", resp, err)
	}
	_, err = client.ContainerStats(t.Context(), &runtimeapi.ContainerStatsRequest{ContainerId: "x"})
	wantCode(t, err, codes.NotFound, "x")
}

// The list and the stream tell the same, and heed every part of the filter.
func TestListContainerStats(t *testing.T) {
	index := &shelf{containers: []pod.Container{shelved("pod1", "web", map[string]string{"app": "web"}), shelved("pod1", "db", nil), shelved("pod2", "web2", map[string]string{"app": "web"})}}
	for range 20 { // more than one batch
		index.containers = append(index.containers, shelved("pod3", "many", nil))
	}
	client := serveShelf(t, index, fakeUsage{})
	for _, tt := range []struct {
		filter *runtimeapi.ContainerStatsFilter
		want   string
	}{
		{nil, "web db web2" + strings.Repeat(" many", 20)},
		{&runtimeapi.ContainerStatsFilter{Id: "we"}, "web web2"},
		{&runtimeapi.ContainerStatsFilter{PodSandboxId: "pod1"}, "web db"},
		{&runtimeapi.ContainerStatsFilter{LabelSelector: map[string]string{"app": "web"}}, "web web2"},
		{&runtimeapi.ContainerStatsFilter{PodSandboxId: "pod2", LabelSelector: map[string]string{"app": "web"}}, "web2"},
		{&runtimeapi.ContainerStatsFilter{Id: "none"}, ""},
	} {
		resp, err := client.ListContainerStats(t.Context(), &runtimeapi.ListContainerStatsRequest{Filter: tt.filter})
		if err != nil {
			t.Fatal(err)
		}
		stream, err := client.StreamContainerStats(t.Context(), &runtimeapi.StreamContainerStatsRequest{Filter: tt.filter})
		if err != nil {
			t.Fatal(err)
		}
		streamed := drain(t, stream, (*runtimeapi.StreamContainerStatsResponse).GetContainerStats)
		for kind, stats := range map[string][]*runtimeapi.ContainerStats{"list": resp.GetStats(), "stream": streamed} {
			var ids []string
			for _, s := range stats {
				ids = append(ids, s.GetAttributes().GetId())
			}
			if got := strings.Join(ids, " "); got != tt.want {
				t.Errorf("%s with filter %v: %q, want %q", kind, tt.filter, got, tt.want)
			}
		}
	}
}

// drain returns the items of all batches.
func drain[M, T any](t *testing.T, stream grpc.ServerStreamingClient[M], items func(*M) []T) (all []T) {
	t.Helper()
	for {
		message, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return all
		}
		if err != nil {
			t.Fatal(err)
		}
		if n := len(items(message)); n > 10 {
			t.Errorf("a batch of %d", n)
		}
		all = append(all, items(message)...)
	}
}

// The kubelet panics on a network without a default interface.
func TestPodWithoutItsInterfaceHasNoNetworkStats(t *testing.T) {
	index := &shelf{sandboxes: []pod.Sandbox{{ID: "pod1", Config: podConfig("pod1"), Running: true, PID: 1}}}
	for _, left := range [][]pod.InterfaceUsage{nil, {{Name: "sit0"}}} {
		client := serveShelf(t, index, fakeUsage{pods: map[string]pod.SandboxUsage{"pod1": {Network: &pod.NetworkUsage{At: readAt, Interfaces: left}}}})
		resp, err := client.PodSandboxStats(t.Context(), &runtimeapi.PodSandboxStatsRequest{PodSandboxId: "pod1"})
		if err != nil {
			t.Fatal(err)
		}
		if network := resp.GetStats().GetLinux().GetNetwork(); network != nil {
			t.Errorf("with %v left: %v", left, network)
		}
	}
}

func TestPodSandboxStats(t *testing.T) {
	config := podConfig("pod1")
	config.Labels = map[string]string{"tier": "front"}
	index := &shelf{
		sandboxes:  []pod.Sandbox{{ID: "pod1", Config: config, Running: true, PID: 1}, {ID: "pod2", Config: podConfig("pod2")}},
		containers: []pod.Container{shelved("pod1", "web", map[string]string{"app": "web"}), shelved("pod2", "other", nil)},
	}
	client := serveShelf(t, index, fakeUsage{
		containers: map[string]pod.ContainerUsage{"web": webUsage},
		pods: map[string]pod.SandboxUsage{"pod1": {
			Usage: &pod.Usage{At: readAt, CPU: &pod.CPUUsage{Total: time.Second}, Memory: &pod.MemoryUsage{Used: 5}}, Processes: 3,
			Network: &pod.NetworkUsage{At: readAt, Interfaces: []pod.InterfaceUsage{
				{Name: "net1", Receive: pod.Traffic{Bytes: 9}},
				{Name: "eth0", Receive: pod.Traffic{Bytes: 1, Errors: 2}, Transmit: pod.Traffic{Bytes: 3, Errors: 4}},
			}},
		}},
	})
	at := readAt.UnixNano()
	want := &runtimeapi.PodSandboxStats{
		Attributes: &runtimeapi.PodSandboxAttributes{Id: "pod1", Metadata: config.GetMetadata(), Labels: config.GetLabels()},
		Linux: &runtimeapi.LinuxPodSandboxStats{
			Cpu: &runtimeapi.CpuUsage{Timestamp: at, UsageCoreNanoSeconds: number(1e9)},
			Memory: &runtimeapi.MemoryUsage{
				Timestamp: at, WorkingSetBytes: number(5), UsageBytes: number(5), RssBytes: number(0), PageFaults: number(0), MajorPageFaults: number(0),
			},
			Network: &runtimeapi.NetworkUsage{
				Timestamp:        at,
				DefaultInterface: &runtimeapi.NetworkInterfaceUsage{Name: "eth0", RxBytes: number(1), RxErrors: number(2), TxBytes: number(3), TxErrors: number(4)},
				Interfaces:       []*runtimeapi.NetworkInterfaceUsage{{Name: "net1", RxBytes: number(9), RxErrors: number(0), TxBytes: number(0), TxErrors: number(0)}},
			},
			Process:    &runtimeapi.ProcessUsage{Timestamp: at, ProcessCount: number(4)},
			Containers: []*runtimeapi.ContainerStats{wantWeb()},
		},
	}
	resp, err := client.PodSandboxStats(t.Context(), &runtimeapi.PodSandboxStatsRequest{PodSandboxId: "pod1"})
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, resp.GetStats(), protocmp.Transform()); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
	_, err = client.PodSandboxStats(t.Context(), &runtimeapi.PodSandboxStatsRequest{PodSandboxId: "x"})
	wantCode(t, err, codes.NotFound, "x")

	for _, tt := range []struct {
		filter *runtimeapi.PodSandboxStatsFilter
		want   string
	}{
		{nil, "pod1 pod2"},
		{&runtimeapi.PodSandboxStatsFilter{Id: "pod2"}, "pod2"},
		{&runtimeapi.PodSandboxStatsFilter{LabelSelector: map[string]string{"tier": "front"}}, "pod1"},
	} {
		list, err := client.ListPodSandboxStats(t.Context(), &runtimeapi.ListPodSandboxStatsRequest{Filter: tt.filter})
		if err != nil {
			t.Fatal(err)
		}
		stream, err := client.StreamPodSandboxStats(t.Context(), &runtimeapi.StreamPodSandboxStatsRequest{Filter: tt.filter})
		if err != nil {
			t.Fatal(err)
		}
		streamed := drain(t, stream, (*runtimeapi.StreamPodSandboxStatsResponse).GetPodSandboxStats)
		if diff := cmp.Diff(list.GetStats(), streamed, protocmp.Transform()); diff != "" {
			t.Errorf("the stream differs (-list +stream)\n%s", diff)
		}
		var ids []string
		for _, s := range list.GetStats() {
			ids = append(ids, s.GetAttributes().GetId())
		}
		if got := strings.Join(ids, " "); got != tt.want {
			t.Errorf("filter %v: %q, want %q", tt.filter, got, tt.want)
		}
	}
}
