package e2e

import (
	"bufio"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/mascri/mascri/internal/engine/enginetest"
)

// machine is one of several hosts: an engine and a daemon in mount, network, pid and ipc
// namespaces of their own, with a cable to a switch.
type machine struct {
	*node
	name    string
	v4, v6  netip.Addr
	disk    string // what outlives a reboot; the same path in the machine
	init    *exec.Cmd
	engined chan struct{} // closed when the engine ended
}

// bootScript is pid 1 of a machine. bash reaps what falls to it while it waits.
const bootScript = `
mount --make-rprivate /
mount -t proc proc /proc
touch "$DISK/mascri"
mount --bind "$MASCRI" "$DISK/mascri"
mount -t tmpfs -o mode=755 tmpfs /run
mkdir -p "$DISK/cni" /run/docker
mount --bind "$DISK/cni" /var/lib/cni
cat /proc/sys/kernel/random/uuid > /run/boot_id
mount --bind /run/boot_id /proc/sys/kernel/random/boot_id
echo 0 | tee /proc/sys/net/ipv4/ip_forward > /proc/sys/net/ipv6/conf/all/forwarding
ip link set lo up
echo up
sleep infinity
:`

// The switch is a bridge in a network namespace of its own: in the tests', the rules of
// other tests' engines would drop what it forwards. It is also a host: the outside.
const (
	switchName  = "switch0"
	switchNetns = "switch"
)

// newSwitch makes the switch, with addresses of its own.
func newSwitch(t *testing.T, addresses ...string) {
	t.Helper()
	run(t, "ip", "netns", "add", switchNetns)
	t.Cleanup(func() { run(t, "ip", "netns", "del", switchNetns) })
	run(t, "ip", "-n", switchNetns, "link", "add", switchName, "type", "bridge")
	for _, address := range addresses {
		run(t, "ip", "-n", switchNetns, "addr", "add", address, "dev", switchName, "nodad")
	}
	run(t, "ip", "-n", switchNetns, "link", "set", switchName, "up")
}

// newMachine makes a machine that was never started.
func newMachine(t *testing.T, name, v4, v6 string, configs map[string]string) *machine {
	t.Helper()
	disk := shortDir(t)
	if err := unix.Mount("tmpfs", disk, "tmpfs", 0, "mode=0755"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(disk, unix.MNT_DETACH); err != nil {
			t.Errorf("unmount %s: %v", disk, err)
		}
	})
	m := &machine{name: name, v4: netip.MustParseAddr(v4), v6: netip.MustParseAddr(v6), disk: disk, node: &node{
		host:    "unix://" + filepath.Join(disk, "docker.sock"),
		socket:  filepath.Join(disk, "mascri.sock"),
		state:   filepath.Join(disk, "state"),
		conf:    filepath.Join(disk, "net.d"),
		bin:     repo(t, "bin/cni"),
		logFile: filepath.Join(disk, "log"),
	}}
	m.prepare = m.enter
	if err := os.MkdirAll(m.conf, 0o755); err != nil {
		t.Fatal(err)
	}
	for name, text := range configs {
		m.writeConf(t, name, text)
	}
	t.Cleanup(func() {
		if t.Failed() {
			engine, _ := os.ReadFile(m.file("engine.log"))
			t.Logf("machine %s: the daemon's log ends with:\n%s\nthe engine's:\n%s", name, m.logTail(), engine[max(0, len(engine)-3000):])
		}
		m.crash(t)
	})
	return m
}

func (m *machine) file(name string) string { return filepath.Join(m.disk, name) }

// enter makes cmd one that runs on the machine.
func (m *machine) enter(cmd *exec.Cmd) {
	program := cmd.Path
	if program == daemonPath {
		program = m.file("mascri")
	}
	cmd.Args = append([]string{"nsenter", "-t", strconv.Itoa(m.init.Process.Pid), "-m", "-n", "-p", "-i", "--", program}, cmd.Args[1:]...)
	cmd.Path = "/usr/bin/nsenter"
}

// sh runs a script on the machine.
func (m *machine) sh(t *testing.T, script string) string {
	t.Helper()
	cmd := exec.Command("/bin/sh", "-euc", script)
	m.enter(cmd)
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("machine %s: %s: %v: %s", m.name, script, err, out)
	}
	return strings.TrimSpace(string(out))
}

// boot starts the machine, its engine and its daemon.
func (m *machine) boot(t *testing.T) {
	t.Helper()
	m.init = exec.Command("bash", "-euc", bootScript)
	m.init.Env = append(os.Environ(), "DISK="+m.disk, "MASCRI="+daemonBinary(t))
	m.init.SysProcAttr = &syscall.SysProcAttr{Cloneflags: unix.CLONE_NEWNS | unix.CLONE_NEWNET | unix.CLONE_NEWPID | unix.CLONE_NEWIPC}
	m.init.Stderr = os.Stderr
	out, err := m.init.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := m.init.Start(); err != nil {
		t.Fatal(err)
	}
	if line, err := bufio.NewReader(out).ReadString('\n'); line != "up\n" {
		t.Fatalf("machine %s does not boot: %q, %v", m.name, line, err)
	}
	run(t, "ip", "-n", switchNetns, "link", "add", m.cable(), "type", "veth", "peer", "name", "eth0", "netns", strconv.Itoa(m.init.Process.Pid))
	run(t, "ip", "-n", switchNetns, "link", "set", m.cable(), "master", switchName, "up")
	m.sh(t, fmt.Sprintf("ip link set eth0 address %s; ip addr add %s/24 dev eth0; ip addr add %s/64 dev eth0 nodad; ip link set eth0 up", m.mac(), m.v4, m.v6))
	m.startEngine(t)
	m.start(t)
}

// mac stays over reboots, as that of a network card does.
func (m *machine) mac() string {
	ip := m.v4.As4()
	return fmt.Sprintf("02:00:%02x:%02x:%02x:%02x", ip[0], ip[1], ip[2], ip[3])
}

// cable is the machine's port of the switch.
func (m *machine) cable() string { return "to-" + m.name }

func (m *machine) startEngine(t *testing.T) {
	t.Helper()
	log, err := os.OpenFile(m.file("engine.log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	engine := enginetest.Command(t, enginetest.Engine28, m.disk, "/run/docker")
	engine.Stdout, engine.Stderr = log, log
	m.enter(engine)
	if err := engine.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{})
	m.engined = ended
	go func() { _ = engine.Wait(); close(ended) }()
	for end := time.Now().Add(time.Minute); ; {
		_, err := try("docker", "-H", m.host, "version")
		if err == nil {
			return
		}
		select {
		case <-ended:
			t.Fatalf("the engine of machine %s ended: %v", m.name, engine.ProcessState)
		case <-time.After(50 * time.Millisecond):
		}
		if time.Now().After(end) {
			t.Fatalf("the engine of machine %s does not answer: %v", m.name, err)
		}
	}
}

// crash is a loss of power: nothing runs any more, and what is not on the disk is gone.
func (m *machine) crash(t *testing.T) {
	t.Helper()
	if m.init == nil {
		return
	}
	if err := m.init.Process.Kill(); err != nil {
		t.Error(err)
	}
	_ = m.init.Wait() // once all in its pid namespace have ended
	if m.engined != nil {
		<-m.engined
	}
	if m.daemon != nil {
		m.wait(t)
	}
	// The cable goes with the network namespace, which the kernel takes its time for.
	if _, err := try("ip", "-n", switchNetns, "link", "del", m.cable()); err != nil && !strings.Contains(err.Error(), "Cannot find device") {
		t.Error(err)
	}
	m.init, m.engined = nil, nil
}

// runPod runs a pod with a server on port 80. Its netns is the path in the tests' namespaces.
func (m *machine) runPod(t *testing.T, name string) sandbox {
	t.Helper()
	s := m.node.runPod(t, config(name))
	s.netns = m.path(s.netns)
	server(t, s.netns, 80)
	return s
}

// path is where the tests see a path of the machine.
func (m *machine) path(path string) string {
	return fmt.Sprintf("/proc/%d/root%s", m.init.Process.Pid, path)
}

// giveCIDRs does what the kubelet does once it knows the node's pod CIDRs.
func (m *machine) giveCIDRs(t *testing.T, cidrs string) {
	t.Helper()
	if _, err := m.cri.UpdateRuntimeConfig(t.Context(), &cri.UpdateRuntimeConfigRequest{
		RuntimeConfig: &cri.RuntimeConfig{NetworkConfig: &cri.NetworkConfig{PodCidr: cidrs}}}); err != nil {
		t.Fatal(err)
	}
}

// wantPods waits until exactly as many pods are listed and have something on the machine.
func (m *machine) wantPods(t *testing.T, pods int) {
	t.Helper()
	var got string
	want := fmt.Sprint("listed ", pods, ", records ", pods, ", pins ", pods, ", addresses ", 2*pods, ", veths ", pods)
	for end := time.Now().Add(30 * time.Second); time.Now().Before(end); time.Sleep(50 * time.Millisecond) {
		addresses, err := filepath.Glob(m.file("cni/networks/*/[0-9f]*"))
		if err != nil {
			t.Fatal(err)
		}
		veths := strings.Fields(m.sh(t, "ip -o link show type veth | grep -c ' master cni0 ' || true"))
		got = fmt.Sprint("listed ", len(m.list(t)), ", records ", len(without(files(t, filepath.Join(m.state, "attachments")), "quarantine")),
			", pins ", len(files(t, m.path("/run/netns"))), ", addresses ", len(addresses), ", veths ", veths[0])
		if got == want {
			return
		}
	}
	t.Fatalf("machine %s: %s; want %s", m.name, got, want)
}
