package kubelet

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func volumes(t *testing.T, b bench) {
	host := t.TempDir()
	write(t, host+"/from-host", "hello\n")
	b.add(t, "volumes", `
restartPolicy: Never
volumes:
- {name: disk, emptyDir: {}}
- {name: memory, emptyDir: {medium: Memory, sizeLimit: 8Mi}}
- {name: host, hostPath: {path: `+host+`, type: Directory}}
initContainers:
- {name: writer, image: IMAGE, command: [sh, -c, "echo kept > /disk/f"], volumeMounts: [{name: disk, mountPath: /disk}]}
containers:
- name: main
  image: IMAGE
  command:
  - sh
  - -c
  - |
    cat /disk/f /host/from-host
    echo from pod > /host/from-pod
    grep ' /memory ' /proc/mounts
    touch /ro/x 2> /dev/null || echo read-only
    cat /sub/deep
    mount | grep -c ' /disk '
  volumeMounts:
  - {name: disk, mountPath: /disk}
  - {name: memory, mountPath: /memory}
  - {name: host, mountPath: /host}
  - {name: host, mountPath: /ro, readOnly: true}
  - {name: disk, mountPath: /sub/deep, subPath: f}`)
	b.untilDone(t, "volumes")
	log := b.log(t, "volumes", "main", "")
	for _, want := range []string{"kept\nhello\n", "tmpfs /memory tmpfs", "size=8192k", "read-only\nkept\n1\n"} {
		if !strings.Contains(log, want) {
			t.Errorf("no %q in\n%s", want, log)
		}
	}
	if got := read(t, host+"/from-pod"); got != "from pod" {
		t.Errorf("from-pod: %q", got)
	}
	b.shows(t, "volumes: emptyDir on disk and in memory, hostPath, read-only, subPath", "%q", log)
}

func environment(t *testing.T, b bench) {
	b.add(t, "env", `
restartPolicy: Never
hostname: called
volumes:
- name: downward
  downwardAPI:
    items:
    - {path: labels, fieldRef: {fieldPath: metadata.labels}}
containers:
- name: main
  image: IMAGE
  workingDir: /bin
  resources: {requests: {cpu: 50m, memory: 16Mi}, limits: {cpu: 250m, memory: 32Mi}}
  env:
  - {name: PLAIN, value: "a $(NAME) \"b\""}
  - {name: NAME, valueFrom: {fieldRef: {fieldPath: metadata.name}}}
  - {name: AFTER, value: "$(NAME)!"}
  - {name: IP, valueFrom: {fieldRef: {fieldPath: status.podIP}}}
  - {name: HOST_IP, valueFrom: {fieldRef: {fieldPath: status.hostIP}}}
  - {name: MEMORY, valueFrom: {resourceFieldRef: {resource: limits.memory}}}
  command: [sh, -c, "echo $PLAIN; echo $AFTER $IP $HOST_IP $MEMORY $(pwd) $(hostname); cat /d/labels; echo; grep called /etc/hosts; echo lost > /dev/termination-log"]
  volumeMounts: [{name: downward, mountPath: /d}]`)
	p := b.untilDone(t, "env")
	log := b.log(t, "env", "main", "")
	want := fmt.Sprintf("a $(NAME) \"b\"\nenv%s! %s %s 33554432 /bin called\napp=\"env\"\n%s\tcalled\n", suffix, p.Status.PodIP, nodeIP, p.Status.PodIP)
	if log != want {
		t.Errorf("%q, want %q", log, want)
	}
	if m := p.container("main").State.Terminated.Message; m != "lost\n" {
		t.Errorf("termination message %q", m)
	}
	b.shows(t, "environment, downward values, hostname, hosts and termination message", "%q", log)
}

func network(t *testing.T, b bench) {
	const web = `command: [sh, -c, "mkdir /www; echo hello > /www/f; httpd -p 8080 -h /www; trap exit TERM; sleep inf & wait"]`
	b.add(t, "hostport", `
terminationGracePeriodSeconds: 1
containers:
- {name: main, image: IMAGE, `+web+`, ports: [{containerPort: 8080, hostPort: 18080}]}`)
	b.add(t, "hostnet", `
hostNetwork: true
terminationGracePeriodSeconds: 1
containers:
- {name: main, image: IMAGE, command: [sh, -c, "readlink /proc/self/ns/net; nc -l -p 18181; sleep inf"]}`)
	b.add(t, "sharedpid", `
shareProcessNamespace: true
terminationGracePeriodSeconds: 1
containers:
- {name: one, image: IMAGE, command: [sleep, "4711"]}
- {name: two, image: IMAGE, command: [sh, -c, "sleep 1; ps; trap exit TERM; sleep inf & wait"]}`)
	b.untilReady(t, "hostport")
	body := await(t, patience, "the host port answers", func() (string, error) { return fetch("http://" + nodeIP + ":18080/f") })
	if body != "hello\n" {
		t.Errorf("by the host port: %q", body)
	}
	b.shows(t, "host ports reach the pod", "http://%s:18080/f says %q", nodeIP, body)

	b.untilReady(t, "hostnet")
	log := strings.TrimSpace(b.log(t, "hostnet", "main", ""))
	await(t, patience, "the pod listens on the node's loopback", func() (struct{}, error) {
		conn, err := net.Dial("tcp", "127.0.0.1:18181")
		if err == nil {
			conn.Close()
		}
		return struct{}{}, err
	})
	if own, err := os.Readlink("/proc/self/ns/net"); err != nil || own != log {
		t.Errorf("the pod is in %q, the node in %q, %v", log, own, err)
	}
	b.shows(t, "host network is the node's", "the namespace is the node's %s; it listens on the node's loopback", log)

	b.untilReady(t, "sharedpid")
	log = await(t, patience, "the other container's process is seen", func() (string, error) {
		text, err := b.get("/containerLogs/default/sharedpid" + suffix + "/two")
		if err == nil && (!strings.Contains(text, "sleep 4711") || !strings.Contains(text, "/pause")) {
			err = fmt.Errorf("ps says %q", text)
		}
		return text, err
	})
	b.shows(t, "processes are shared where the pod asks for it", "ps in one container: %q", strings.TrimSpace(log))
}

func resources(t *testing.T, b bench) {
	b.add(t, "qos-guaranteed", `
terminationGracePeriodSeconds: 1
containers:
- {name: main, image: IMAGE, `+forever+`, resources: {limits: {cpu: 500m, memory: 64Mi}}}`)
	b.add(t, "qos-burstable", `
terminationGracePeriodSeconds: 1
containers:
- {name: main, image: IMAGE, `+forever+`, resources: {requests: {cpu: 100m, memory: 32Mi}, limits: {memory: 48Mi}}}`)
	b.add(t, "qos-besteffort", `
terminationGracePeriodSeconds: 1
containers:
- {name: main, image: IMAGE, `+forever+`}`)
	var lines []string
	for _, want := range []struct{ name, class, parent, shares, quota, memory, podShares, podMemory string }{
		{"qos-guaranteed", "Guaranteed", "", "512", "50000", "67108864", "512", "67108864"},
		{"qos-burstable", "Burstable", "burstable", "102", "-1", "50331648", "102", "50331648"},
		{"qos-besteffort", "BestEffort", "besteffort", "2", "-1", "", "2", ""},
	} {
		p := b.untilReady(t, want.name)
		if p.Status.QOSClass != want.class {
			t.Errorf("%s is %s", want.name, p.Status.QOSClass)
		}
		id := p.container("main").id()
		group := filepath.Join(os.Getenv("MASCRI_TEST_CGROUP"), "kubepods", want.parent, "pod"+p.Metadata.UID)
		for _, file := range []struct{ path, want string }{
			{"cpu/" + group + "/" + id + "/cpu.shares", want.shares},
			{"cpu/" + group + "/" + id + "/cpu.cfs_quota_us", want.quota},
			{"memory/" + group + "/" + id + "/memory.limit_in_bytes", want.memory},
			{"cpu/" + group + "/cpu.shares", want.podShares},
			{"memory/" + group + "/memory.limit_in_bytes", want.podMemory},
		} {
			if got := read(t, "/sys/fs/cgroup/"+file.path); file.want != "" && got != file.want {
				t.Errorf("%s: %s is %s, want %s", want.name, file.path, got, file.want)
			}
		}
		lines = append(lines, fmt.Sprintf("%s in kubepods/%s: shares %s, quota %s, memory %s", want.class, want.parent, want.shares, want.quota, want.memory))
	}
	b.shows(t, "QoS cgroups hold the pod and its limits", "%s", strings.Join(lines, "; "))
}

func outOfMemory(t *testing.T, b bench) {
	b.add(t, "oom", `
restartPolicy: Never
containers:
- {name: main, image: IMAGE, command: [sh, -c, "sleep 1; tail /dev/zero"], resources: {limits: {memory: 16Mi}}}`)
	p := b.until(t, "oom", "ended", func(p pod) bool { return p.container("main").State.Terminated != nil })
	end := p.container("main").State.Terminated
	if end.Reason != "OOMKilled" || end.ExitCode != 137 {
		t.Errorf("ended by %+v", end)
	}
	b.shows(t, "too much memory is told as OOMKilled", "reason %s, exit code %d", end.Reason, end.ExitCode)
}

func security(t *testing.T, b bench) {
	b.add(t, "security", `
restartPolicy: Never
securityContext:
  runAsUser: 1234
  runAsGroup: 2345
  fsGroup: 3456
  supplementalGroups: [4567]
  sysctls:
  - {name: net.ipv4.ip_local_port_range, value: "40000 50000"}
  - {name: net.core.somaxconn, value: "333"}
volumes:
- {name: disk, emptyDir: {}}
containers:
- name: user
  image: IMAGE
  securityContext:
    readOnlyRootFilesystem: true
    allowPrivilegeEscalation: false
    capabilities: {drop: [ALL]}
    seccompProfile: {type: RuntimeDefault}
  command: [sh, -c, "id; touch /x || echo read-only; ls -nd /disk; cat /proc/sys/net/ipv4/ip_local_port_range /proc/sys/net/core/somaxconn; grep -E '^(Cap(Prm|Eff|Bnd)|NoNewPrivs|Seccomp):' /proc/self/status"]
  volumeMounts: [{name: disk, mountPath: /disk}]
- name: net
  image: IMAGE
  securityContext: {runAsUser: 0, capabilities: {drop: [ALL], add: [NET_ADMIN]}, seccompProfile: {type: Unconfined}}
  command: [sh, -c, "ip link set lo mtu 1400 && echo may; chown 1 /tmp 2>/dev/null || echo may not; grep -E '^(CapEff|Seccomp):' /proc/self/status"]
- name: privileged
  image: IMAGE
  securityContext: {runAsUser: 0, privileged: true}
  command: [sh, -c, "ls -l /dev/kmsg; grep -E '^(Seccomp):' /proc/self/status"]`)
	p := b.untilDone(t, "security")
	var all []string
	for container, wants := range map[string][]string{
		"user": {
			"uid=1234 gid=2345 groups=2345,3456,4567", "read-only\n", " 3456 ", "40000\t50000\n333\n",
			"CapPrm:\t0000000000000000", "CapBnd:\t0000000000000000", "NoNewPrivs:\t1", "Seccomp:\t2",
		},
		"net":        {"may\nmay not\n", "CapEff:\t0000000000001000", "Seccomp:\t0"},
		"privileged": {"/dev/kmsg", "Seccomp:\t0"},
	} {
		log := b.log(t, "security", container, "")
		all = append(all, strings.Join(strings.Fields(log), " "))
		for _, want := range wants {
			if !strings.Contains(strings.ReplaceAll(log, "groups=2345,4567,3456", "groups=2345,3456,4567"), want) {
				t.Errorf("%s: no %q in\n%s", container, want, log)
			}
		}
	}
	if u := p.container("user").User.Linux; u.UID != 1234 || u.GID != 2345 || len(u.SupplementalGroups) != 3 {
		t.Errorf("the status says that the user is %+v", u)
	}
	b.shows(t, "security contexts: user, groups, fsGroup, read-only root, capabilities, seccomp, sysctls, privileged", "%s", strings.Join(all, " | "))
}
