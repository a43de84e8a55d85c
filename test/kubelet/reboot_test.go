package kubelet

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

const bootID = "/proc/sys/kernel/random/boot_id"

// rebooted shows that a node makes its pods again after a loss of power.
func rebooted(t *testing.T, b bench) {
	before := b.places(t)
	b.kubelet.end(t, syscall.SIGKILL)
	b.mascri.end(t, syscall.SIGKILL)
	b.engine.Kill(t)
	b.losePower(t)
	id := read(t, bootID)
	write(t, b.file("boot_id"), read(t, "/proc/sys/kernel/random/uuid")+"\n")
	if err := unix.Mount(b.file("boot_id"), bootID, "", unix.MS_BIND, ""); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = unix.Unmount(bootID, unix.MNT_DETACH) })
	if id == read(t, bootID) {
		t.Fatal("the boot id is the same")
	}
	began := time.Now()
	b.engine.Start(t)
	b.startMascri(t)
	b.startKubelet(t)
	again := b.untilAgain(t, before)
	took := time.Since(began)
	b.shows(t, "pods are made again after a reboot", "new boot id, nothing in /run, no process, mount, interface, rule or cgroup left: all %d ready %.0f s after the start; %s", len(again), took.Seconds(), b.wantNoMore(t))
}

// losePower takes away what a machine has not on its disk, as far as that can be done
// from within: processes, mounts, /run, interfaces, rules, and cgroups.
func (b bench) losePower(t *testing.T) {
	t.Helper()
	await(t, patience, "no process is left", func() (struct{}, error) {
		left := others(t)
		for _, pid := range left {
			_ = unix.Kill(pid, unix.SIGKILL) // it may have ended
		}
		if len(left) > 0 {
			return struct{}{}, fmt.Errorf("there are %v", left)
		}
		return struct{}{}, nil
	})
	engine := filepath.Dir(strings.TrimPrefix(b.engine.Host(), "unix://"))
	mounts := strings.Split(read(t, "/proc/self/mountinfo"), "\n")
	slices.Reverse(mounts)
	for _, mount := range mounts {
		point := strings.Fields(mount)[4]
		for _, prefix := range []string{engine + "/", "/var/lib/kubelet/", "/run/netns", "/run/docker"} {
			if strings.HasPrefix(point, prefix) {
				// One may have gone with what it was mounted on.
				if err := unix.Unmount(point, unix.MNT_DETACH); err != nil && !errors.Is(err, unix.EINVAL) {
					t.Errorf("unmount %s: %v", point, err)
				}
			}
		}
	}
	for _, name := range []string{"exec", "pid", "docker.sock"} { // which an engine has in /run
		if err := os.RemoveAll(filepath.Join(engine, name)); err != nil {
			t.Error(err)
		}
	}
	entries, err := os.ReadDir("/run")
	if err != nil {
		t.Fatal(err)
	}
	for _, entry := range entries {
		// What stands for disks; the overlay of /etc is there, too.
		if path := filepath.Join("/run", entry.Name()); !slices.Contains([]string{b.dir, engine, "/run/etc"}, path) {
			if err := os.RemoveAll(path); err != nil {
				t.Error(err)
			}
		}
	}
	for link := range strings.Lines(run(t, "ip", "-o", "link")) {
		name, _, _ := strings.Cut(strings.Fields(link)[1], "@")
		if name = strings.TrimSuffix(name, ":"); name != "lo" {
			_, _ = try("ip", "link", "del", name) // a veth may have gone with its peer
		}
	}
	for _, flavour := range []string{"iptables-nft", "ip6tables-nft", "iptables-legacy", "ip6tables-legacy"} {
		for _, table := range []string{"filter", "nat", "mangle", "raw"} {
			for _, verb := range []string{"-F", "-X"} {
				_, _ = try(flavour, "-t", table, verb) // a kernel need not have each
			}
		}
		_, _ = try(flavour, "-P", "FORWARD", "ACCEPT")
	}
	_, _ = try("nft", "flush", "ruleset")
	write(t, "/proc/sys/net/ipv4/ip_forward", "0")
	groups, _ := filepath.Glob("/sys/fs/cgroup/*/" + os.Getenv("MASCRI_TEST_CGROUP") + "/kubepods") // the pattern is valid
	for _, group := range groups {
		if _, err := os.Stat(group); err != nil {
			continue // it had another name, and is gone by that
		}
		if out, err := exec.Command("find", group, "-depth", "-type", "d", "-delete").CombinedOutput(); err != nil {
			t.Errorf("%v: %s", err, out)
		}
	}
}

// others are the processes of these namespaces but this one and the first.
func others(t *testing.T) (pids []int) {
	t.Helper()
	entries, err := os.ReadDir("/proc")
	if err != nil {
		t.Fatal(err)
	}
	for _, entry := range entries {
		if pid, err := strconv.Atoi(entry.Name()); err == nil && pid != 1 && pid != os.Getpid() {
			pids = append(pids, pid)
		}
	}
	return pids
}

// wantNoMore waits until the node has as many addresses and so on as pods.
func (b bench) wantNoMore(t *testing.T) string {
	t.Helper()
	return await(t, patience, "nothing is leaked", func() (string, error) {
		pins, _ := filepath.Glob("/run/netns/*") // the patterns are valid
		records, _ := filepath.Glob(b.file("state/attachments/*.json"))
		counts := []int{len(b.leases(t)), len(pins), len(records), strings.Count(run(t, "ip", "-o", "link"), " master cni0 ")}
		text := fmt.Sprintf("IPs %d, network namespaces %d, records %d, veths %d", counts[0], counts[1], counts[2], counts[3])
		if slices.ContainsFunc(counts, func(n int) bool { return n != len(staying) }) {
			return "", errors.New(text)
		}
		return text, nil
	})
}
