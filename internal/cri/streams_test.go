package cri_test

import (
	"bytes"
	"context"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/mascri/mascri/internal/pod"
)

// fakeExecs runs what a command's first word names.
type fakeExecs struct{}

func (fakeExecs) Exec(ctx context.Context, _ string, command []string, streams pod.Streams) (int, error) {
	switch command[0] {
	case "hang":
		<-ctx.Done()
		return 0, ctx.Err()
	case "much":
		for range 20 {
			_, _ = streams.Stdout.Write(bytes.Repeat([]byte("x"), 1<<20))
		}
		_, _ = streams.Stderr.Write([]byte("end"))
	}
	_, _ = streams.Stdout.Write([]byte("out"))
	return 3, nil
}

// fakeStreams answers with what it was asked for.
type fakeStreams struct{}

func (fakeStreams) Exec(req *runtimeapi.ExecRequest) (*runtimeapi.ExecResponse, error) {
	return &runtimeapi.ExecResponse{Url: "exec " + req.GetContainerId()}, nil
}

func (fakeStreams) Attach(req *runtimeapi.AttachRequest) (*runtimeapi.AttachResponse, error) {
	return &runtimeapi.AttachResponse{Url: "attach " + req.GetContainerId()}, nil
}

func (fakeStreams) PortForward(req *runtimeapi.PortForwardRequest) (*runtimeapi.PortForwardResponse, error) {
	return &runtimeapi.PortForwardResponse{Url: "forward " + req.GetPodSandboxId()}, nil
}

func TestExecSyncAnswers(t *testing.T) {
	d := newDaemon(t)
	id := d.mustStart(t, d.run(t, podConfig("web")), containerConfig("app"))
	ask := func(timeout int64, command ...string) (*runtimeapi.ExecSyncResponse, error) {
		return d.ExecSync(t.Context(), &runtimeapi.ExecSyncRequest{ContainerId: id, Cmd: command, Timeout: timeout}, grpc.MaxCallRecvMsgSize(16<<20))
	}
	resp, err := ask(0, "go")
	if err != nil || string(resp.GetStdout()) != "out" || resp.GetExitCode() != 3 {
		t.Errorf("%v, %v", resp, err)
	}
	began := time.Now()
	_, err = ask(1, "hang")
	wantCode(t, err, codes.DeadlineExceeded, id, "within 1 s")
	if took := time.Since(began); took < time.Second || took > 10*time.Second {
		t.Errorf("a timeout of 1 s took %v", took)
	}
	// An answer that fits into a message of the kubelet's.
	if resp, err = ask(0, "much"); err != nil || len(resp.GetStdout()) < 15<<20 || resp.GetExitCode() != 3 {
		t.Errorf("much output: %d bytes, %v", len(resp.GetStdout()), err)
	}
	_, err = ask(0)
	wantCode(t, err, codes.InvalidArgument, "cmd")
	_, err = ask(0, "go", "a\x00b")
	wantCode(t, err, codes.InvalidArgument, "cmd[1]")
	_, err = ask(-1, "go")
	wantCode(t, err, codes.InvalidArgument, "timeout")
	if err := d.stopContainer(t, id, 0); err != nil {
		t.Fatal(err)
	}
	_, err = ask(0, "go")
	wantCode(t, err, codes.FailedPrecondition, id, "EXITED")
	id = "0000missing0000"
	_, err = ask(0, "go")
	wantCode(t, err, codes.NotFound, "0000")
}

func TestStreamsAreChecked(t *testing.T) {
	d := newDaemon(t)
	sandbox := d.run(t, podConfig("web"))
	config := containerConfig("app")
	config.Stdin = true
	id := d.mustStart(t, sandbox, config)
	deaf := d.mustStart(t, sandbox, containerConfig("deaf"))
	exec := func(change func(*runtimeapi.ExecRequest)) (string, error) {
		req := &runtimeapi.ExecRequest{ContainerId: id, Cmd: []string{"sh"}, Stdout: true}
		change(req)
		resp, err := d.Exec(t.Context(), req)
		return resp.GetUrl(), err
	}
	attach := func(change func(*runtimeapi.AttachRequest)) (string, error) {
		req := &runtimeapi.AttachRequest{ContainerId: id, Stdout: true}
		change(req)
		resp, err := d.Attach(t.Context(), req)
		return resp.GetUrl(), err
	}
	forward := func(sandbox string, ports ...int32) (string, error) {
		resp, err := d.PortForward(t.Context(), &runtimeapi.PortForwardRequest{PodSandboxId: sandbox, Port: ports})
		return resp.GetUrl(), err
	}
	if url, err := exec(func(*runtimeapi.ExecRequest) {}); err != nil || url != "exec "+id {
		t.Errorf("%q, %v", url, err)
	}
	_, err := exec(func(r *runtimeapi.ExecRequest) { r.Tty, r.Stderr = true, true })
	wantCode(t, err, codes.InvalidArgument, "stderr")
	_, err = exec(func(r *runtimeapi.ExecRequest) { r.Stdout = false })
	wantCode(t, err, codes.InvalidArgument, "stdout")
	_, err = exec(func(r *runtimeapi.ExecRequest) { r.Cmd = nil })
	wantCode(t, err, codes.InvalidArgument, "cmd")
	_, err = exec(func(r *runtimeapi.ExecRequest) { r.ContainerId = "0000missing0000" })
	wantCode(t, err, codes.NotFound)

	if url, err := attach(func(r *runtimeapi.AttachRequest) { r.Stdin = true }); err != nil || url != "attach "+id {
		t.Errorf("%q, %v", url, err)
	}
	_, err = attach(func(r *runtimeapi.AttachRequest) { r.Tty = true })
	wantCode(t, err, codes.InvalidArgument, "tty")
	_, err = attach(func(r *runtimeapi.AttachRequest) { r.ContainerId, r.Stdin = deaf, true })
	wantCode(t, err, codes.InvalidArgument, "stdin")

	if url, err := forward(sandbox, 80, 65535); err != nil || url != "forward "+sandbox {
		t.Errorf("%q, %v", url, err)
	}
	for _, port := range []int32{0, -1, 65536} {
		_, err = forward(sandbox, 80, port)
		wantCode(t, err, codes.InvalidArgument, "port[1]")
	}
	_, err = forward("0000missing0000", 80)
	wantCode(t, err, codes.NotFound)
	if err := d.stop(t, sandbox); err != nil {
		t.Fatal(err)
	}
	_, err = forward(sandbox, 80)
	wantCode(t, err, codes.FailedPrecondition)
	_, err = exec(func(*runtimeapi.ExecRequest) {})
	wantCode(t, err, codes.FailedPrecondition, "EXITED")
}
