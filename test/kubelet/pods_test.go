package kubelet

import (
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"testing"

	cri "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// forever is a container's command that ends at once on SIGTERM.
const forever = `command: [sh, -c, "trap exit TERM; sleep inf & wait"]`

func pods(t *testing.T, b bench) {
	names := []string{"plain-1", "plain-2", "plain-3"}
	for _, name := range names {
		b.add(t, name, `
containers:
- {name: main, image: IMAGE, `+forever+`}`)
	}
	ips := map[string]string{}
	for _, name := range names {
		p := b.untilReady(t, name)
		ip, err := netip.ParseAddr(p.Status.PodIP)
		if err != nil || !netip.MustParsePrefix("10.88.0.0/16").Contains(ip) || ips[p.Status.PodIP] != "" {
			t.Errorf("IP of %s: %q; others: %v", name, p.Status.PodIP, ips)
		}
		ips[p.Status.PodIP] = name
		sandbox := b.sandbox(t, p)
		if own := b.ipOf(t, sandbox.GetId()); own != p.Status.PodIP {
			t.Errorf("%s: MasCRI says %s, the kubelet %s", name, own, p.Status.PodIP)
		}
		if seen := b.docker(t, "exec", sandbox.GetId(), "ip", "addr", "show", "eth0"); !strings.Contains(seen, "inet "+p.Status.PodIP+"/16") {
			t.Errorf("%s has no %s on eth0:\n%s", name, p.Status.PodIP, seen)
		}
	}
	for _, name := range names {
		await(t, patience, name+" is in /runningpods", func() (string, error) { // it has a cache
			running, err := b.get("/runningpods/")
			if err == nil && !strings.Contains(running, `"name":"`+name+suffix+`"`) {
				err = errors.New(running)
			}
			return running, err
		})
	}
	b.shows(t, "static pods come up with an IP from CNI", "%v, as MasCRI and ip in the pods say; all in /runningpods", ips)
}

// sandbox returns the only sandbox of a pod.
func (n *node) sandbox(t *testing.T, p pod) *cri.PodSandbox {
	t.Helper()
	found := n.sandboxes(t, p)
	if len(found) != 1 {
		t.Fatalf("%s has %d sandboxes: %v", p.Metadata.Name, len(found), found)
	}
	return found[0]
}

func (n *node) sandboxes(t *testing.T, p pod) []*cri.PodSandbox {
	t.Helper()
	resp, err := n.cri.ListPodSandbox(t.Context(), &cri.ListPodSandboxRequest{Filter: &cri.PodSandboxFilter{
		LabelSelector: map[string]string{"io.kubernetes.pod.uid": p.Metadata.UID},
	}})
	if err != nil {
		t.Fatal(err)
	}
	return resp.GetItems()
}

func (n *node) ipOf(t *testing.T, sandbox string) string {
	t.Helper()
	resp, err := n.cri.PodSandboxStatus(t.Context(), &cri.PodSandboxStatusRequest{PodSandboxId: sandbox})
	if err != nil {
		t.Fatal(err)
	}
	return resp.GetStatus().GetNetwork().GetIp()
}

// An init container ends before the next one begins; a sidecar, which is an init container
// that restarts, starts before what comes after it and ends after the pod's containers.
func order(t *testing.T, b bench) {
	b.add(t, "order", `
restartPolicy: Never
terminationGracePeriodSeconds: 20
volumes:
- {name: notes, emptyDir: {}}
initContainers:
- {name: first, image: IMAGE, command: [sh, -c, "sleep 1; echo first >> /notes/order"], volumeMounts: [{name: notes, mountPath: /notes}]}
- name: sidecar
  image: IMAGE
  restartPolicy: Always
  command: [sh, -c, "trap 'echo sidecar ends >> /notes/order; exit' TERM; echo sidecar >> /notes/order; sleep inf & wait"]
  startupProbe: {exec: {command: [cat, /notes/order]}, periodSeconds: 1}
  volumeMounts: [{name: notes, mountPath: /notes}]
- {name: second, image: IMAGE, command: [sh, -c, "sleep 1; echo second >> /notes/order"], volumeMounts: [{name: notes, mountPath: /notes}]}
containers:
- {name: main, image: IMAGE, command: [sh, -c, "echo main >> /notes/order; sleep 2; echo main ends >> /notes/order"], volumeMounts: [{name: notes, mountPath: /notes}]}`)
	p := b.untilDone(t, "order")
	notes := read(t, "/var/lib/kubelet/pods/"+p.Metadata.UID+"/volumes/kubernetes.io~empty-dir/notes/order")
	got := strings.ReplaceAll(notes, "\n", ", ")
	if want := "first, sidecar, second, main, main ends, sidecar ends"; got != want {
		t.Errorf("order %q, want %q", got, want)
	}
	b.shows(t, "init containers and sidecars run in their order", "%s", got)
}

func backOff(t *testing.T, b bench) {
	b.add(t, "backoff", `
terminationGracePeriodSeconds: 1
containers:
- {name: main, image: IMAGE, command: [sh, -c, "date +%s.%N >> /starts/at; exit 3"], volumeMounts: [{name: starts, mountPath: /starts}]}
volumes:
- {name: starts, emptyDir: {medium: Memory}}`)
	b.until(t, "backoff", "waits", func(p pod) bool {
		w := p.container("main").State.Waiting
		return w != nil && w.Reason == "CrashLoopBackOff" && strings.Contains(w.Message, "back-off 10s")
	})
	p := b.until(t, "backoff", "was restarted twice", func(p pod) bool {
		last := p.container("main").LastState.Terminated
		return p.container("main").RestartCount >= 2 && last != nil && last.ExitCode == 3 && last.Reason == "Error"
	})
	starts := strings.Fields(read(t, "/var/lib/kubelet/pods/"+p.Metadata.UID+"/volumes/kubernetes.io~empty-dir/starts/at"))
	var gaps []string
	for i := 1; i < len(starts); i++ {
		var from, to float64
		fmt.Sscan(starts[i-1], &from)
		fmt.Sscan(starts[i], &to)
		gaps = append(gaps, fmt.Sprintf("%.1f s", to-from))
		if i == 2 && to-from < 9 {
			t.Errorf("the second restart came after %.1f s, want the back-off of 10 s", to-from)
		}
	}
	b.shows(t, "a container that ends is restarted with back-off", "exit code 3, %d restarts, starts apart %v", p.container("main").RestartCount, gaps)
}
