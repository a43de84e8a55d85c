package kubelet

import (
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"
)

// Each handler is shown from both sides: a probe that passes, and one that does not.
func probes(t *testing.T, b bench) {
	build := exec.Command("go", "build", "-trimpath", "-o", b.file("health"), "./health")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	const web = `command: [sh, -c, "mkdir /www; echo yes > /www/yes; httpd -p 8080 -h /www; trap exit TERM; sleep inf & wait"]`
	const grpc = `volumeMounts: [{name: health, mountPath: /health}]
  command: [/health]`
	for name, kind := range map[string]struct{ workload, good, bad string }{
		"exec": {web, `exec: {command: [cat, /www/yes]}`, `exec: {command: [cat, /www/no]}`},
		"http": {web, `httpGet: {path: /yes, port: 8080}`, `httpGet: {path: /no, port: 8080}`},
		"tcp":  {web, `tcpSocket: {port: 8080}`, `tcpSocket: {port: 8081}`},
		"grpc": {grpc, `grpc: {port: 5000}`, `grpc: {port: 5000, service: broken}`},
	} {
		for _, side := range []struct{ name, probes string }{
			{"good", `startupProbe: {` + kind.good + `, periodSeconds: 1, timeoutSeconds: 10, failureThreshold: 60}
  readinessProbe: {` + kind.good + `, periodSeconds: 1, timeoutSeconds: 10}
  livenessProbe: {` + kind.good + `, periodSeconds: 1, timeoutSeconds: 10}`},
			{"unready", `readinessProbe: {` + kind.bad + `, periodSeconds: 1}`},
			{"dead", `startupProbe: {` + kind.good + `, periodSeconds: 1, timeoutSeconds: 10, failureThreshold: 60}
  livenessProbe: {` + kind.bad + `, periodSeconds: 1, failureThreshold: 2}`},
		} {
			b.add(t, "probe-"+name+"-"+side.name, `
terminationGracePeriodSeconds: 1
volumes:
- {name: health, hostPath: {path: `+b.file("health")+`, type: File}}
containers:
- name: main
  image: IMAGE
  `+kind.workload+`
  `+side.probes)
		}
	}
	for _, name := range []string{"exec", "http", "tcp", "grpc"} {
		b.untilReady(t, "probe-"+name+"-good")
		dead := b.until(t, "probe-"+name+"-dead", "was restarted", func(p pod) bool { return p.container("main").RestartCount > 0 })
		unready := b.until(t, "probe-"+name+"-unready", "runs", func(p pod) bool { return p.container("main").State.Running != nil })
		if since := time.Since(unready.container("main").State.Running.StartedAt); since < 5*time.Second {
			time.Sleep(5*time.Second - since)
		}
		unready = b.untilRuns(t, "probe-"+name+"-unready")
		good := b.untilReady(t, "probe-"+name+"-good")
		if unready.ready() || good.container("main").RestartCount > 0 {
			t.Errorf("%s: the unready pod is ready: %t; the good one was restarted %d times", name, unready.ready(), good.container("main").RestartCount)
		}
		last := dead.container("main").LastState.Terminated
		if last == nil {
			t.Errorf("%s: nothing is known of the container that was killed", name)
			continue
		}
		b.shows(t, "probes by "+name, "started, ready and alive; another is not ready after 5 s; a third was killed with %d and restarted", last.ExitCode)
	}
}

func (n *node) untilRuns(t *testing.T, name string) pod {
	t.Helper()
	return n.until(t, name, "runs", func(p pod) bool { return p.container("main").State.Running != nil })
}

func hooks(t *testing.T, b bench) {
	notes := t.TempDir()
	b.add(t, "hooks", `
terminationGracePeriodSeconds: 10
volumes:
- {name: notes, hostPath: {path: `+notes+`, type: Directory}}
containers:
- name: main
  image: IMAGE
  command: [sh, -c, "trap 'echo TERM >> /notes/n; exit' TERM; sleep inf & wait"]
  volumeMounts: [{name: notes, mountPath: /notes}]
  lifecycle:
    postStart: {exec: {command: [sh, -c, "echo postStart >> /notes/n"]}}
    preStop: {exec: {command: [sh, -c, "echo preStop >> /notes/n; sleep 1; echo preStop ends >> /notes/n"]}}`)
	b.add(t, "hooks-fail", `
terminationGracePeriodSeconds: 1
containers:
- name: main
  image: IMAGE
  `+forever+`
  lifecycle: {postStart: {exec: {command: [sh, -c, "exit 4"]}}}`)
	b.untilReady(t, "hooks")
	p := b.until(t, "hooks-fail", "was killed", func(p pod) bool {
		c := p.container("main")
		return c.LastState.Terminated != nil || c.State.Terminated != nil || c.State.Waiting != nil && c.State.Waiting.Reason == "PostStartHookError"
	})
	b.remove(t, "hooks", "hooks-fail")
	got := strings.ReplaceAll(read(t, notes+"/n"), "\n", ", ")
	if want := "postStart, preStop, preStop ends, TERM"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
	b.shows(t, "lifecycle hooks run", "%s; after a postStart that failed the container is %v", got, p.container("main").State)
}

// A container gets its stop signal, and SIGKILL only at the end of its grace.
func grace(t *testing.T, b bench) {
	notes := t.TempDir()
	const spec = `
terminationGracePeriodSeconds: %d
volumes:
- {name: notes, hostPath: {path: %s, type: Directory}}
containers:
- name: main
  image: IMAGE
  command: [sh, -c, "%s"]
  volumeMounts: [{name: notes, mountPath: /notes}]%s`
	b.add(t, "grace-polite", fmt.Sprintf(spec, 30, notes, "trap 'echo TERM; sleep 2; echo done > /notes/polite; exit' TERM; sleep inf & wait", ""))
	b.add(t, "grace-deaf", fmt.Sprintf(spec, 4, notes, "trap 'echo TERM >> /notes/deaf' TERM; while true; do sleep 1; echo tick > /notes/tick; done", ""))
	names := []string{"grace-polite", "grace-deaf"}
	took := map[string]string{}
	for _, name := range names {
		b.untilReady(t, name)
	}
	for name, least := range map[string]float64{"grace-polite": 2, "grace-deaf": 4} {
		began := time.Now()
		b.remove(t, name)
		seconds := time.Since(began).Seconds()
		took[name] = fmt.Sprintf("%.1f s", seconds)
		if seconds < least {
			t.Errorf("%s took %.1f s, want %.0f s at least", name, seconds, least)
		}
	}
	if read(t, notes+"/polite") != "done" || read(t, notes+"/deaf") != "TERM" {
		t.Errorf("notes %q and %q", read(t, notes+"/polite"), read(t, notes+"/deaf"))
	}
	b.shows(t, "termination grace is given", "one that ends 2 s after SIGTERM: %s; one that ignores it, with 4 s of grace: %s", took["grace-polite"], took["grace-deaf"])
}

// The image's stop signal, and the pod's own where the kubelet passes it on.
func stopSignal(t *testing.T, b bench) {
	notes := t.TempDir()
	b.add(t, "signal", `
os: {name: linux}
terminationGracePeriodSeconds: 20
volumes:
- {name: notes, hostPath: {path: `+notes+`, type: Directory}}
containers:
- name: main
  image: IMAGE
  command: [sh, -c, "trap 'echo TERM > /notes/n; exit' TERM; trap 'echo USR1 > /notes/n; exit' USR1; sleep inf & wait"]
  volumeMounts: [{name: notes, mountPath: /notes}]
  lifecycle: {stopSignal: SIGUSR1}`)
	b.untilReady(t, "signal")
	b.remove(t, "signal")
	if got := read(t, notes+"/n"); got != "USR1" {
		t.Errorf("it got %s, want USR1", got)
	}
	b.shows(t, "a pod's stop signal is sent", "USR1")
}
