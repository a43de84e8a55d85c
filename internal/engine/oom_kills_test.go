package engine

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	cri "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/mascri/mascri/internal/pod"
)

const hogID = "a6250129905fbf7f8c2d7b0f039705aff4478d4e5e8710d0c475f6b49b5152f3"

func TestRecordsOfTheKernelsLog(t *testing.T) {
	for _, tt := range []struct {
		name, record, want string
	}{
		{"cgroup v2, systemd driver", "6,1209,164247681,-;oom-kill:constraint=CONSTRAINT_MEMCG,nodemask=(null),cpuset=docker-" + hogID + ".scope,mems_allowed=0,oom_memcg=/kubepods.slice/kubepods-burstable.slice/docker-" + hogID + ".scope,task_memcg=/kubepods.slice/kubepods-burstable.slice/docker-" + hogID + ".scope,task=dd,pid=2626,uid=0\n", hogID},
		{"cgroup v1, cgroupfs driver", "6,1,2,-;oom-kill:constraint=CONSTRAINT_MEMCG,nodemask=(null),cpuset=" + hogID + ",mems_allowed=0,oom_memcg=/docker/" + hogID + ",task_memcg=/docker/" + hogID + ",task=dd,pid=16336,uid=0\n SUBSYSTEM=x\n", hogID},
		{"a cgroup that the container made", "6,1,2,-;oom-kill:constraint=CONSTRAINT_MEMCG,nodemask=(null),cpuset=/,mems_allowed=0,oom_memcg=/docker/" + hogID + "/app,task_memcg=/docker/" + hogID + "/app,task=dd,pid=1,uid=0\n", hogID},
		{"the machine's memory is full", "6,1,2,-;oom-kill:constraint=CONSTRAINT_NONE,nodemask=(null),cpuset=/,mems_allowed=0,global_oom,task_memcg=/docker/" + hogID + ",task=dd,pid=1,uid=0\n", hogID},
		{"no container", "6,1,2,-;oom-kill:constraint=CONSTRAINT_NONE,nodemask=(null),cpuset=/,mems_allowed=0,global_oom,task_memcg=/system.slice/ssh.service,task=" + hogID[:15] + ",pid=1,uid=0\n", ""},
		{"the limit is the container's, the process not", "6,1,2,-;oom-kill:constraint=CONSTRAINT_MEMCG,nodemask=(null),cpuset=" + hogID + ",mems_allowed=0,oom_memcg=/docker/" + hogID + ",task_memcg=/other,task=dd,pid=1,uid=0\n", ""},
		{"not by the kernel", "14,1,2,-;oom-kill:constraint=CONSTRAINT_MEMCG,task_memcg=/docker/" + hogID + ",task=dd,pid=1,uid=0\n", ""},
		{"something else", "6,1,2,-;Memory cgroup out of memory: Killed process 1 (dd),task_memcg=/docker/" + hogID + "\n", ""},
		{"nothing", "", ""},
	} {
		got, ok := oomKilled(tt.record)
		if got != tt.want || ok != (tt.want != "") {
			t.Errorf("%s: %q, %t; want %q", tt.name, got, ok, tt.want)
		}
	}
}

func TestOldestOOMKillsAreForgotten(t *testing.T) {
	kills := newOOMKills()
	for i := range oomKillsKept + 1 {
		if !kills.add(fmt.Sprint(i)) || kills.add(fmt.Sprint(i)) {
			t.Fatalf("%d is not new once", i)
		}
	}
	if kills.has("0") || !kills.has("1") || !kills.has(fmt.Sprint(oomKillsKept)) || len(kills.ids) != oomKillsKept {
		t.Errorf("%d are kept", len(kills.ids))
	}
}

// The kernel kills a process in a cgroup named like a container, of which the engine says
// that it just ended.
func TestOOMKillThatTheEngineMissed(t *testing.T) {
	id := fmt.Sprintf("%064x", rand.Uint64()) // the kernel's log holds what earlier runs did
	labels, err := pod.ContainerLabels(pod.ContainerSpec{
		Fixed:    pod.Fixed{SandboxID: hogID, Config: &cri.ContainerConfig{Metadata: &cri.ContainerMetadata{Name: "hog"}}},
		Instance: "one", Sandbox: pod.Sandbox{Config: &cri.PodSandboxConfig{Metadata: &cri.PodSandboxMetadata{Name: "a"}}},
	})
	if err != nil {
		t.Fatal(err)
	}
	e, _ := observedEngine(t, func(w http.ResponseWriter, r *http.Request) {
		if strings.HasSuffix(r.URL.Path, "/events") {
			w.WriteHeader(http.StatusOK)
			_ = http.NewResponseController(w).Flush()
			<-r.Context().Done()
			return
		}
		_ = json.NewEncoder(w).Encode(map[string]any{
			"Id": id, "Config": map[string]any{"Labels": labels}, "HostConfig": map[string]any{},
			"State": map[string]any{"Status": "exited", "ExitCode": 137},
		})
	})
	e.instance = "one"
	look := func() bool {
		item, err := e.Look(t.Context(), id)
		if err != nil || item.Container == nil {
			t.Fatalf("look: %+v, %v", item, err)
		}
		return item.Container.OOMKilled
	}
	hints := make(chan pod.Hint, 1000) // of what the machine's other containers did, too
	go func() { _ = e.Hints(t.Context(), func(h pod.Hint) { hints <- h }) }()
	ended := make(chan error, 1)
	go func() { ended <- e.WatchOOMKills(t.Context()) }()
	if look() {
		t.Error("killed for its memory before it was")
	}
	outOfMemory(t, id)
	limit := time.After(10 * time.Second)
	for want := (pod.Hint{Kind: pod.HintChanged, ID: id}); ; {
		select {
		case h := <-hints:
			if h != want {
				continue
			}
		case err := <-ended:
			t.Fatalf("watching ended: %v", err)
		case <-limit:
			t.Fatal("no hint")
		}
		break
	}
	if !look() {
		t.Error("not told as killed for its memory")
	}
}

// outOfMemory has a process killed in a cgroup with that name.
func outOfMemory(t *testing.T, name string) {
	t.Helper()
	parent, limit := "/sys/fs/cgroup/memory", "memory.limit_in_bytes"
	if _, err := os.Stat(parent); err != nil {
		parent, limit = "/sys/fs/cgroup", "memory.max"
	}
	dir := filepath.Join(parent, name)
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.Remove(dir); err != nil {
			t.Error(err)
		}
	})
	if err := os.WriteFile(filepath.Join(dir, limit), []byte("15728640"), 0o644); err != nil {
		t.Fatal(err)
	}
	out, err := exec.CommandContext(t.Context(), "sh", "-c", "echo $$ >"+dir+"/cgroup.procs && exec dd if=/dev/zero of=/dev/null bs=40M count=1").CombinedOutput()
	if err == nil || !strings.Contains(err.Error(), "killed") {
		t.Fatalf("ended with %v: %s", err, out)
	}
}

func TestKernelsLogThatCantBeRead(t *testing.T) {
	e, _ := observedEngine(t, nil)
	if err := e.watchOOMKills(t.Context(), filepath.Join(t.TempDir(), "kmsg")); err == nil || !strings.Contains(err.Error(), "read the kernel's log: open ") {
		t.Errorf("error %v", err)
	}
}
