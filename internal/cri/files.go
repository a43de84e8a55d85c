package cri

import (
	"bufio"
	"bytes"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"sync"

	cri "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/mascri/mascri/internal/pod"
)

const (
	hostResolvConf = "/etc/resolv.conf"
	hostHosts      = "/etc/hosts"
	// systemd-resolved's list of the real servers. /etc/resolv.conf then names only
	// its stub on the node's loopback, which a pod can't reach.
	resolvedConf = "/run/systemd/resolve/resolv.conf"
	resolvedStub = "127.0.0.53"
)

// fileMost is how much is read of a file that containers can write to.
const fileMost = 1 << 20

// errTooLarge is of a file that is left as it is.
var errTooLarge = errors.New("larger than 1 MiB, so that nothing is added to it")

// localHosts is what every hosts file of a pod begins with.
const localHosts = `127.0.0.1	localhost
::1	localhost ip6-localhost ip6-loopback
fe00::	ip6-localnet
ff02::1	ip6-allnodes
ff02::2	ip6-allrouters
`

// files are the resolv.conf, hosts and hostname of each sandbox, a directory each,
// bound into the sandbox and by the engine into every container that joins its
// network. The engine's own would not do: it replaces a resolver on loopback by a
// public one and knows nothing of the pod's IP; and an engine that need not care for
// the network at all starts a sandbox faster.
//
// They are written in place, as they are mounted, and not durably: no sandbox
// outlives a loss of power.
type files struct {
	dir string

	mu     sync.Mutex      // guards the following field
	making map[string]bool // directories of sandboxes that are not in the index yet
}

func newFiles(dir string) *files { return &files{dir: dir, making: map[string]bool{}} }

// make returns new files with all that is known before the container is made. They
// are kept from sweeping until settled is called.
func (f *files) make(config *cri.PodSandboxConfig) (made pod.Files, settled func(), err error) {
	resolv, err := resolvConf(config)
	if err != nil {
		return pod.Files{}, nil, err
	}
	dir := filepath.Join(f.dir, rand.Text())
	settled = f.mark(dir)
	made = pod.Files{ResolvConf: filepath.Join(dir, "resolv.conf"), Hosts: filepath.Join(dir, "hosts"), Hostname: filepath.Join(dir, "hostname")}
	err = os.MkdirAll(dir, 0o700)
	if err == nil {
		err = errors.Join(write(made.ResolvConf, resolv), write(made.Hosts, nil), write(made.Hostname, nil))
	}
	if err != nil {
		settled()
		return pod.Files{}, nil, errors.Join(fmt.Errorf("sandbox files: %w", err), os.RemoveAll(dir))
	}
	return made, settled, nil
}

func (f *files) mark(dir string) (unmark func()) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.making[dir] = true
	return func() {
		f.mu.Lock()
		defer f.mu.Unlock()
		delete(f.making, dir)
	}
}

// name writes what needs the container's id: without a hostname in the request, the
// engine makes one of it.
func (f *files) name(files pod.Files, id string, config *cri.PodSandboxConfig) error {
	hostname, hosts := hostnameOf(id, config), []byte(localHosts)
	if pod.HostNetwork(config) {
		var err error
		if hostname, err = os.Hostname(); err != nil {
			return fmt.Errorf("hostname of the node: %w", err)
		}
		if hosts, err = os.ReadFile(hostHosts); err != nil && !os.IsNotExist(err) {
			return fmt.Errorf("hosts of the node: %w", err)
		}
	}
	return errors.Join(write(files.Hostname, []byte(hostname+"\n")), write(files.Hosts, hosts))
}

// finish adds the pod's own addresses to its hosts, as Docker does on networks of its
// own, and what its network says of DNS to its resolv.conf. It can be called again.
func (f *files) finish(sandbox pod.Sandbox, attachment pod.Attachment) error {
	var lines bytes.Buffer
	for _, ip := range attachment.IPs {
		fmt.Fprintf(&lines, "%s\t%s\n", ip, hostnameOf(sandbox.ID, sandbox.Config))
	}
	hosts, err := readMost(sandbox.Files.Hosts)
	switch {
	case bytes.Contains(hosts, lines.Bytes()): // containers may have added lines of their own since
		err = nil
	case err == nil:
		err = add(sandbox.Files.Hosts, lines.Bytes())
	}
	if err != nil {
		return fmt.Errorf("hosts of sandbox %q: %w", sandbox.ID, err)
	}
	if err := f.resolve(sandbox, attachment.DNS); err != nil {
		return fmt.Errorf("resolv.conf of sandbox %q: %w", sandbox.ID, err)
	}
	return nil
}

// resolve uses what the CNI result says of DNS where the request says nothing: its name
// servers take the place of all that the node has, and without any, its search domains and
// options are added to that, where the last line of each keyword counts.
func (f *files) resolve(sandbox pod.Sandbox, dns pod.DNS) error {
	if hasDNS(sandbox.Config.GetDnsConfig()) || dns.IsZero() {
		return nil
	}
	own := formatDNS(&cri.DNSConfig{Servers: dns.Nameservers, Searches: dns.Search, Options: dns.Options})
	if len(dns.Nameservers) > 0 {
		return write(sandbox.Files.ResolvConf, own)
	}
	text, err := readMost(sandbox.Files.ResolvConf)
	if err != nil || bytes.HasSuffix(text, own) {
		return err
	}
	if len(text) > 0 && !bytes.HasSuffix(text, []byte("\n")) {
		own = append([]byte("\n"), own...)
	}
	return add(sandbox.Files.ResolvConf, own)
}

func hasDNS(dns *cri.DNSConfig) bool {
	return len(dns.GetServers())+len(dns.GetSearches())+len(dns.GetOptions()) > 0
}

// remove deletes a sandbox's files. It is no error if there are none.
func (f *files) remove(files pod.Files) error {
	dir := filepath.Dir(files.ResolvConf)
	if filepath.Dir(dir) != f.dir { // not made by us: nothing to delete
		return nil
	}
	return os.RemoveAll(dir)
}

// sweep deletes the files of sandboxes that are no more. sandboxes must return all
// there are, but for those being made.
func (f *files) sweep(sandboxes func() []pod.Sandbox) error {
	entries, err := os.ReadDir(f.dir)
	if err != nil && !os.IsNotExist(err) {
		return err
	}
	// In this order: what is listed is marked, or else settled and known.
	f.mu.Lock()
	used := maps.Clone(f.making)
	f.mu.Unlock()
	for _, sandbox := range sandboxes() {
		used[filepath.Dir(sandbox.Files.ResolvConf)] = true
	}
	var errs []error
	for _, entry := range entries {
		if dir := filepath.Join(f.dir, entry.Name()); !used[dir] {
			errs = append(errs, os.RemoveAll(dir))
		}
	}
	return errors.Join(errs...)
}

// hostnameOf is the pod's hostname; id is the container's.
func hostnameOf(id string, config *cri.PodSandboxConfig) string {
	if name := config.GetHostname(); name != "" {
		return name
	}
	return id[:12] // as the engine does
}

// readMost returns, of a file with more than fileMost bytes, those that it begins with, and
// an error.
func readMost(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, fileMost+1))
	if err == nil && len(text) > fileMost {
		text, err = text[:fileMost], fmt.Errorf("%s: %w", path, errTooLarge)
	}
	return text, err
}

// write changes the file in place, readable by all users of the pod.
func write(path string, text []byte) error { return os.WriteFile(path, text, 0o644) }

// add appends at once, so that a crash leaves all or nothing.
func add(path string, text []byte) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_APPEND, 0)
	if err != nil {
		return err
	}
	_, err = f.Write(text)
	return errors.Join(err, f.Close())
}

// resolvConf is as the request's DNS config says, and without one the node's own.
func resolvConf(config *cri.PodSandboxConfig) ([]byte, error) {
	if dns := config.GetDnsConfig(); hasDNS(dns) {
		return formatDNS(dns), nil
	}
	text, err := os.ReadFile(hostResolvConf)
	if os.IsNotExist(err) {
		return []byte{}, nil
	}
	if err != nil {
		return nil, fmt.Errorf("resolv.conf of the node: %w", err)
	}
	if !pod.HostNetwork(config) && onlyStub(text) {
		if real, err := os.ReadFile(resolvedConf); err == nil {
			return real, nil
		}
	}
	return text, nil
}

// formatDNS writes resolv.conf(5), one keyword a line as its searches and options
// take several words.
func formatDNS(dns *cri.DNSConfig) []byte {
	var b bytes.Buffer
	if words := dns.GetSearches(); len(words) > 0 {
		fmt.Fprintf(&b, "search %s\n", strings.Join(words, " "))
	}
	for _, server := range dns.GetServers() {
		fmt.Fprintf(&b, "nameserver %s\n", server)
	}
	if words := dns.GetOptions(); len(words) > 0 {
		fmt.Fprintf(&b, "options %s\n", strings.Join(words, " "))
	}
	return b.Bytes()
}

func onlyStub(resolv []byte) bool {
	stub := false
	lines := bufio.NewScanner(bytes.NewReader(resolv))
	for lines.Scan() {
		words := strings.Fields(lines.Text())
		if len(words) < 2 || words[0] != "nameserver" {
			continue
		}
		if words[1] != resolvedStub {
			return false
		}
		stub = true
	}
	return stub
}
