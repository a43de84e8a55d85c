package cri

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"os"
	"strings"

	cri "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/mascri/mascri/internal/pod"
)

const (
	hostResolvConf = "/etc/resolv.conf"
	// systemd-resolved's list of the real servers. /etc/resolv.conf then names only
	// its stub on the node's loopback, which a pod can't reach.
	resolvedConf = "/run/systemd/resolve/resolv.conf"
	resolvedStub = "127.0.0.53"
)

// writeFiles gives the sandbox its resolv.conf and hosts. The engine made both and
// binds them into the sandbox and into every container that joins its network, so
// they are changed in place. What the engine writes itself would not do: it replaces
// a resolver on loopback by a public one, and knows nothing of the pod's IP.
//
// It can be called again: the pod's own lines in hosts come last and tell that all is
// written. On the host network hosts is the engine's copy of the node's.
func writeFiles(sandbox pod.Sandbox, attachment pod.Attachment) error {
	lines := hostsLines(sandbox, attachment)
	if len(lines) > 0 {
		hosts, err := os.ReadFile(sandbox.HostsPath)
		if err != nil {
			return fmt.Errorf("hosts of sandbox %q: %w", sandbox.ID, err)
		}
		if bytes.HasSuffix(hosts, lines) {
			return nil
		}
	}
	resolv, err := resolvConf(sandbox)
	if err != nil {
		return err
	}
	if err := write(sandbox.ResolvConfPath, os.O_TRUNC, resolv); err != nil {
		return fmt.Errorf("resolv.conf of sandbox %q: %w", sandbox.ID, err)
	}
	if len(lines) == 0 {
		return nil
	}
	if err := write(sandbox.HostsPath, os.O_APPEND, lines); err != nil {
		return fmt.Errorf("hosts of sandbox %q: %w", sandbox.ID, err)
	}
	return nil
}

// write changes the file in place: it is the source of bind mounts.
func write(path string, how int, text []byte) error {
	f, err := os.OpenFile(path, os.O_WRONLY|how, 0)
	if err != nil {
		return err
	}
	_, err = f.Write(text)
	return errors.Join(err, f.Close())
}

// resolvConf is as the request's DNS config says, and without one the node's own.
func resolvConf(sandbox pod.Sandbox) ([]byte, error) {
	dns := sandbox.Config.GetDnsConfig()
	if len(dns.GetServers())+len(dns.GetSearches())+len(dns.GetOptions()) > 0 {
		return formatDNS(dns), nil
	}
	text, err := os.ReadFile(hostResolvConf)
	if os.IsNotExist(err) {
		return []byte{}, nil
	}
	if err != nil {
		return nil, fmt.Errorf("resolv.conf of the node: %w", err)
	}
	if !sandbox.HostNetwork() && onlyStub(text) {
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

// hostsLines are the pod's own addresses, as Docker adds them on networks of its own.
func hostsLines(sandbox pod.Sandbox, attachment pod.Attachment) []byte {
	name := sandbox.Config.GetHostname()
	if name == "" {
		name = sandbox.ID[:12] // the engine's default
	}
	var b bytes.Buffer
	for _, ip := range attachment.IPs {
		fmt.Fprintf(&b, "%s\t%s\n", ip, name)
	}
	return b.Bytes()
}
