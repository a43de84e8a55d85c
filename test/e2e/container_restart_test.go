package e2e

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	cri "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/mascri/mascri/internal/engine/enginetest"
)

// A container outlives the daemon, and whatever happens to it meanwhile is known after.
func TestContainersOutliveTheDaemon(t *testing.T) {
	bothEngines(t, func(t *testing.T, version enginetest.Version) {
		b := newBench(t, newNode(t, version, userConf()))
		created := b.createContainer(t, b.request("created", "exit 1"))
		for how, end := range map[string]func(*testing.T){"SIGTERM": b.terminate, "SIGKILL": b.kill} {
			t.Run(how, func(t *testing.T) {
				runs, ends := b.witness(t, how+"-runs", false), b.witness(t, how+"-ends", true)
				dies := b.runContainer(t, b.request(how+"-dies", ""))
				end(t)
				ends.letGo(t)
				b.docker(t, "kill", dies.id)
				b.docker(t, "wait", ends.id)
				b.start(t)
				runs.wantGoesOn(t)
				ends.wantEnded(t, "9", "before\nafter\n")
				if s := b.look(t, dies.id).status; s.GetState() != cri.ContainerState_CONTAINER_EXITED || s.GetExitCode() != 137 || s.GetReason() != "Error" {
					t.Errorf("what was killed meanwhile: %v", s)
				}
				if s := b.look(t, created).status; s.GetState() != cri.ContainerState_CONTAINER_CREATED {
					t.Errorf("what never ran: %v", s)
				}
				for _, id := range []string{runs.id, ends.id, dies.id} {
					b.removeContainer(t, id)
				}
			})
		}
		b.removePod(t, b.pod.id)
		b.wantWhole(t, 0)
	})
}

// An engine that restarts takes the containers with it, unless it has live-restore.
func TestContainersWhenTheEngineRestarts(t *testing.T) {
	for name, flags := range map[string][]string{"live-restore": {"--live-restore"}, "no live-restore": nil} {
		t.Run(name, func(t *testing.T) {
			bothEngines(t, func(t *testing.T, version enginetest.Version) {
				b := newBench(t, newNodeOn(t, enginetest.StartDaemon(t, version, flags...), userConf()))
				runs, ends := b.witness(t, "runs", false), b.witness(t, "ends", true)
				created := b.createContainer(t, b.request("created", ""))
				b.engine.Stop(t)
				b.waitRuntimeReady(t, false)
				if flags != nil {
					ends.letGo(t)
					time.Sleep(100 * time.Millisecond) // while there is no engine
				}
				b.engine.Start(t)
				b.waitRuntimeReady(t, true)
				if flags != nil {
					runs.wantGoesOn(t)
					// What was written to no engine is not in Docker's own log either, and of what
					// ended while there was no containerd, containerd 1.7 has lost the exit code:
					// Docker then says 255.
					code := b.docker(t, "inspect", "-f", "{{.State.ExitCode}}", ends.id)
					if code != "9" && code != "255" {
						t.Errorf("Docker says that it ended with %s", code)
					}
					ends.wantEnded(t, code, b.docker(t, "logs", ends.id)+"\n")
				} else if s := runs.ended(t).status; s.GetExitCode() != 3 || s.GetReason() != "Error" || s.GetFinishedAt() < s.GetStartedAt() {
					t.Errorf("it ended with the engine: %v", s)
				}
				if s := b.look(t, created).status; s.GetState() != cri.ContainerState_CONTAINER_CREATED {
					t.Errorf("what never ran: %v", s)
				}
				b.removePod(t, b.pod.id)
				b.wantWhole(t, 0)
			})
		})
	}
}

// witness is a container that writes and then waits for a file.
type witness struct {
	container
	b       *bench
	release string // the file, on the node
}

// witness runs one that ends with code 9 when it is let go, or else goes on.
func (b *bench) witness(t *testing.T, name string, ends bool) witness {
	t.Helper()
	dir := shortDir(t)
	script := "trap 'exit 3' TERM; echo before; while ! test -e /mnt/go; do busybox usleep 20000; done; echo after; while true; do busybox usleep 20000; done"
	if ends {
		script = strings.Replace(script, "while true; do busybox usleep 20000; done", "exit 9", 1)
	}
	req := b.request(name, script)
	req.Config.Mounts = []*cri.Mount{{HostPath: dir, ContainerPath: "/mnt"}}
	c := b.runContainer(t, req)
	c.waitLogged(t, "before")
	return witness{c, b, filepath.Join(dir, "go")}
}

func (w witness) letGo(t *testing.T) {
	t.Helper()
	if err := os.WriteFile(w.release, nil, 0o600); err != nil {
		t.Fatal(err)
	}
}

// wantGoesOn checks that it is the same process, and that what it writes is logged.
func (w witness) wantGoesOn(t *testing.T) {
	t.Helper()
	now := w.b.look(t, w.id)
	if s := now.status; s.GetState() != cri.ContainerState_CONTAINER_RUNNING || s.GetStartedAt() != w.status.GetStartedAt() || now.pid(t) != w.pid(t) {
		t.Errorf("it was %v, and is %v", w.status, s)
	}
	w.letGo(t)
	w.waitLogged(t, "after")
	if got := w.b.stopContainer(t, w.id, 0).logged(t); got != "before\nafter\n" {
		t.Errorf("the log has %q", got)
	}
}

// wantEnded checks that the end that nobody saw is told, with its exit code, and what
// is in the log.
func (w witness) wantEnded(t *testing.T, code, log string) {
	t.Helper()
	c := w.ended(t)
	if s := c.status; strconv.Itoa(int(s.GetExitCode())) != code || s.GetReason() != "Error" || s.GetFinishedAt() <= s.GetStartedAt() || s.GetStartedAt() != w.status.GetStartedAt() {
		t.Errorf("it ended as %v", s)
	}
	if got := c.logged(t); got != log {
		t.Errorf("the log has %q, want %q", got, log)
	}
}
