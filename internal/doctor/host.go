package doctor

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

func (s *seen) lookAtHost() {
	s.euid = os.Geteuid()
	s.systemd = exists("/run/systemd/system") // as sd_booted(3) tells
	for _, dir := range []string{"/etc", "/usr/lib", "/lib"} {
		s.unit = s.unit || s.systemd && exists(dir+"/systemd/system/mascri.service")
	}
	s.ipv6 = exists("/proc/sys/net/ipv6/conf/all/forwarding")
	s.addresses = addresses()
	s.kernel = lookAtKernel()
}

// address is one of an interface of the host.
type address struct {
	link   string
	prefix netip.Prefix
}

// addresses leaves out what the kernel does not tell, as it is only asked for
// conflicts among the others.
func addresses() []address {
	links, err := net.Interfaces()
	if err != nil {
		return nil
	}
	var all []address
	for _, link := range links {
		list, err := link.Addrs()
		if err != nil {
			continue // it is gone
		}
		for _, a := range list {
			if prefix, err := netip.ParsePrefix(a.String()); err == nil {
				all = append(all, address{link.Name, prefix})
			}
		}
	}
	return all
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

// commands are the packet filter's commands in PATH.
type commands struct {
	iptables string // what "iptables --version" prints; "" where there is none
	nft      bool
}

func findCommands(ctx context.Context) commands {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	version, err := exec.CommandContext(ctx, "iptables", "--version").Output()
	if err != nil {
		version = nil
	}
	_, err = exec.LookPath("nft")
	return commands{iptables: strings.TrimSpace(string(version)), nft: err == nil}
}

// tryPin bind-mounts a network namespace as the daemon does in dir, but in a mount
// namespace of its own that ends with the trial. The error says what was refused.
func tryPin(dir string) error {
	// The nearest directory that exists is the one to be written to.
	at := dir
	for !exists(at) {
		at = filepath.Dir(at)
	}
	stat, err := os.Stat(at)
	if err != nil {
		return err
	}
	if !stat.IsDir() {
		return &fs.PathError{Op: "use", Path: at, Err: unix.ENOTDIR}
	}
	if err := unix.Access(at, unix.W_OK); err != nil {
		return &fs.PathError{Op: "write to", Path: at, Err: err}
	}
	result := make(chan error)
	go func() {
		// Never unlocked: the thread ends with the goroutine, and its mount
		// namespace with the thread.
		runtime.LockOSThread()
		result <- pinUnseen(at)
	}()
	return <-result
}

// pinUnseen puts the calling thread into a new mount namespace and pins its network
// namespace there, on a tmpfs over dir.
func pinUnseen(dir string) error {
	if err := unix.Unshare(unix.CLONE_NEWNS); err != nil {
		return fmt.Errorf("make a mount namespace: %w", err)
	}
	file := filepath.Join(dir, "mascri-doctor")
	return errors.Join(
		mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE),
		mount("tmpfs", dir, "tmpfs", 0),
		os.WriteFile(file, nil, 0o600),
		mount("/proc/thread-self/ns/net", file, "", unix.MS_BIND),
	)
}

func mount(source, target, fstype string, flags uintptr) error {
	if err := unix.Mount(source, target, fstype, flags, ""); err != nil {
		return &fs.PathError{Op: "mount at", Path: target, Err: err}
	}
	return nil
}
