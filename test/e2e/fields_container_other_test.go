package e2e

import (
	"encoding/json"
	"errors"
	"io"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"
)

var containerFilterFields = map[string]field{
	"filter.id": seenBy("TestContainers"), "filter.state.state": seenBy("TestContainers"),
	"filter.pod_sandbox_id": seenBy("TestContainers"), "filter.label_selector": seenBy("TestContainers"),
}

// otherFields are those of the other requests for containers.
func (b *bench) otherFields(t *testing.T) {
	b.wantFiltered(t)
	b.wantNoSuchContainer(t)
	b.wantStopped(t)
	b.wantReopened(t)
}

// listed returns the ids that a filter passes, by both ways to ask, newest first.
func (b *bench) listed(t *testing.T, filter *cri.ContainerFilter) (ids []string) {
	t.Helper()
	list, err := b.cri.ListContainers(t.Context(), &cri.ListContainersRequest{Filter: filter})
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range list.GetContainers() {
		ids = append(ids, c.GetId())
	}
	stream, err := b.cri.StreamContainers(t.Context(), &cri.StreamContainersRequest{Filter: filter})
	if err != nil {
		t.Fatal(err)
	}
	var streamed []string
	for {
		batch, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		for _, c := range batch.GetContainers() {
			streamed = append(streamed, c.GetId())
		}
	}
	if !slices.Equal(ids, streamed) {
		t.Errorf("listed %v, streamed %v", ids, streamed)
	}
	return ids
}

func (b *bench) wantFiltered(t *testing.T) {
	t.Helper()
	other := b.runPod(t, config("other"))
	labelled := b.request("labelled", "")
	labelled.Config.Labels = map[string]string{"app": "web", "tier": "x"}
	labelled.Config.Annotations = map[string]string{"note": "n"}
	created := b.createContainer(t, labelled)
	running := b.runContainer(t, b.request("running", "")).id
	req := b.request("ended", "exit 3")
	req.PodSandboxId, req.SandboxConfig = other.id, nil
	ended := b.runContainer(t, req)
	if ended.ended(t).status.GetLogPath() != "" {
		t.Errorf("log path %q in a pod without a log directory", ended.status.GetLogPath())
	}
	state := func(s cri.ContainerState) *cri.ContainerFilter {
		return &cri.ContainerFilter{State: &cri.ContainerStateValue{State: s}}
	}
	for name, tt := range map[string]struct {
		filter *cri.ContainerFilter
		want   []string
	}{
		"none":                  {nil, []string{ended.id, running, created}},
		"id":                    {&cri.ContainerFilter{Id: running}, []string{running}},
		"id's beginning":        {&cri.ContainerFilter{Id: running[:13]}, []string{running}},
		"id of none":            {&cri.ContainerFilter{Id: b.pod.id}, nil},
		"created":               {state(cri.ContainerState_CONTAINER_CREATED), []string{created}},
		"running":               {state(cri.ContainerState_CONTAINER_RUNNING), []string{running}},
		"exited":                {state(cri.ContainerState_CONTAINER_EXITED), []string{ended.id}},
		"unknown":               {state(cri.ContainerState_CONTAINER_UNKNOWN), nil},
		"pod":                   {&cri.ContainerFilter{PodSandboxId: other.id}, []string{ended.id}},
		"label":                 {&cri.ContainerFilter{LabelSelector: map[string]string{"app": "web"}}, []string{created}},
		"label of another":      {&cri.ContainerFilter{LabelSelector: map[string]string{"app": "db"}}, nil},
		"pod and state of none": {&cri.ContainerFilter{PodSandboxId: other.id, State: state(cri.ContainerState_CONTAINER_RUNNING).State}, nil},
	} {
		if got := b.listed(t, tt.filter); !slices.Equal(got, tt.want) {
			t.Errorf("filter by %s: %v, want %v", name, got, tt.want)
		}
	}
	list, err := b.cri.ListContainers(t.Context(), &cri.ListContainersRequest{Filter: &cri.ContainerFilter{Id: created}})
	if err != nil {
		t.Fatal(err)
	}
	got, s := list.GetContainers()[0], b.look(t, created).status
	if got.GetPodSandboxId() != b.pod.id || got.GetMetadata().GetName() != "labelled" || got.GetImageId() != s.GetImageId() || got.GetImageRef() != s.GetImageRef() ||
		got.GetCreatedAt() != s.GetCreatedAt() || got.GetAnnotations()["note"] != "n" || len(got.GetLabels()) != 2 || got.GetImageRef() != b.digest {
		t.Errorf("listed %v, the status says %v", got, s)
	}
	b.removePod(t, other.id) // with its container
	b.removeContainer(t, created)
	b.removeContainer(t, running)
	if left := b.listed(t, nil); len(left) > 0 {
		t.Errorf("left: %v", left)
	}
}

// What is not there is NotFound, but to stop or to remove it is no error.
func (b *bench) wantNoSuchContainer(t *testing.T) {
	t.Helper()
	const id = "nonesuch"
	_, err := b.cri.StartContainer(t.Context(), &cri.StartContainerRequest{ContainerId: id})
	wantRefused(t, err, codes.NotFound, id)
	_, err = b.cri.ContainerStatus(t.Context(), &cri.ContainerStatusRequest{ContainerId: id})
	wantRefused(t, err, codes.NotFound, id)
	_, err = b.cri.ReopenContainerLog(t.Context(), &cri.ReopenContainerLogRequest{ContainerId: id})
	wantRefused(t, err, codes.NotFound, id)
	if _, err := b.cri.StopContainer(t.Context(), &cri.StopContainerRequest{ContainerId: id}); err != nil {
		t.Error(err)
	}
	if _, err := b.cri.RemoveContainer(t.Context(), &cri.RemoveContainerRequest{ContainerId: id}); err != nil {
		t.Error(err)
	}
	// No id at all is a mistake.
	for name, call := range map[string]func() error{
		"StartContainer":  func() error { _, err := b.cri.StartContainer(t.Context(), &cri.StartContainerRequest{}); return err },
		"StopContainer":   func() error { _, err := b.cri.StopContainer(t.Context(), &cri.StopContainerRequest{}); return err },
		"RemoveContainer": func() error { _, err := b.cri.RemoveContainer(t.Context(), &cri.RemoveContainerRequest{}); return err },
		"ContainerStatus": func() error { _, err := b.cri.ContainerStatus(t.Context(), &cri.ContainerStatusRequest{}); return err },
	} {
		if err := call(); err == nil || !strings.Contains(err.Error(), "InvalidArgument") {
			t.Errorf("%s of no id: %v", name, err)
		}
	}
}

// timeout is how long the process has after its stop signal.
func (b *bench) wantStopped(t *testing.T) {
	t.Helper()
	stop := func(script string, timeout int64) (container, time.Duration) {
		t.Helper()
		c := b.runContainer(t, b.request("stopped", script))
		defer b.removeContainer(t, c.id)
		c.waitLogged(t, "ready")
		began := time.Now()
		ended := b.stopContainer(t, c.id, timeout)
		took := time.Since(began)
		b.stopContainer(t, c.id, timeout) // again
		return ended, took
	}
	const deaf = "trap '' TERM; echo ready; while :; do busybox usleep 50000; done"
	if c, took := stop("trap 'exit 5' TERM; echo ready; while :; do busybox usleep 20000; done", 20); c.status.GetExitCode() != 5 || took > 5*time.Second {
		t.Errorf("one that obeys: %v after %v", c.status, took)
	}
	if c, took := stop(deaf, 1); c.status.GetExitCode() != 137 || took < time.Second || took > 5*time.Second {
		t.Errorf("one that does not: %v after %v", c.status, took)
	}
	if c, took := stop(deaf, 0); c.status.GetExitCode() != 137 || took > time.Second {
		t.Errorf("at once: %v after %v", c.status, took)
	}
	_, err := b.cri.StopContainer(t.Context(), &cri.StopContainerRequest{ContainerId: b.pod.id, Timeout: -1})
	wantRefused(t, err, codes.InvalidArgument, "timeout")
}

// After the kubelet renamed the log file, what comes goes to a new one, and nothing is lost.
func (b *bench) wantReopened(t *testing.T) {
	t.Helper()
	c := b.runContainer(t, b.request("reopened", "echo one; while ! test -e /go; do busybox usleep 20000; done; echo two"))
	c.waitLogged(t, "one")
	path := c.status.GetLogPath()
	if err := os.Rename(path, path+".1"); err != nil {
		t.Fatal(err)
	}
	reopen := func() error {
		_, err := b.cri.ReopenContainerLog(t.Context(), &cri.ReopenContainerLogRequest{ContainerId: c.id[:13]})
		return err
	}
	if err := reopen(); err != nil {
		t.Fatal(err)
	}
	b.docker(t, "exec", c.id, "sh", "-c", "true >/go")
	if got := c.output(t); got != "two\n" {
		t.Errorf("the new file has %q", got)
	}
	if old, err := os.ReadFile(path + ".1"); err != nil || !strings.HasSuffix(string(old), " stdout F one\n") {
		t.Errorf("the old file has %q, %v", old, err)
	}
	wantRefused(t, reopen(), codes.FailedPrecondition, "does not run")
	brief, err := b.cri.ContainerStatus(t.Context(), &cri.ContainerStatusRequest{ContainerId: c.id})
	if err != nil || len(brief.GetInfo()) > 0 {
		t.Errorf("not verbose: %v, %v", brief.GetInfo(), err)
	}
	var sandboxID string
	if err := json.Unmarshal(b.look(t, c.id).info["sandboxID"], &sandboxID); err != nil || sandboxID != b.pod.id {
		t.Errorf("verbose: sandbox %q, %v", sandboxID, err)
	}
	b.removeContainer(t, c.id)
	if _, err := os.Stat(path); err != nil {
		t.Errorf("the log file is the kubelet's: %v", err)
	}
}
