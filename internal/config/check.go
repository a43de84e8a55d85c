package config

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/distribution/reference"
)

// maxSocketPath is the length in bytes of sockaddr_un.sun_path on Linux, less its
// closing NUL.
const maxSocketPath = 107

// maxOwnSocketPath leaves room for the name that the daemon's socket has while it is made.
const maxOwnSocketPath = maxSocketPath - len(".new")

func checkPath(path string) error {
	switch {
	case path == "":
		return errors.New("is empty: write an absolute path")
	case !filepath.IsAbs(path):
		return fmt.Errorf("%q is not an absolute path: begin it with /", path)
	case strings.ContainsRune(path, 0):
		return fmt.Errorf("%q contains a NUL byte, which no path may", path)
	}
	return nil
}

func checkSocket(path string, most int) error {
	if rest, ok := strings.CutPrefix(path, "unix://"); ok {
		return fmt.Errorf("%q is a URL: write the path alone, %q", path, rest)
	}
	if err := checkPath(path); err != nil {
		return err
	}
	if len(path) > most {
		return fmt.Errorf("path has %d bytes, and a socket's may have %d: choose a shorter one", len(path), most)
	}
	return nil
}

func checkEngineHost(host string) error {
	path, ok := strings.CutPrefix(host, "unix://")
	if !ok {
		return fmt.Errorf("%q is not a unix socket: write unix:///path/to/docker.sock; "+
			"an engine behind tcp or ssh has other files and network namespaces than this machine", host)
	}
	if err := checkSocket(path, maxSocketPath); err != nil {
		return fmt.Errorf("after unix://, %w", err)
	}
	return nil
}

func checkBinDirs(dirs []string) error {
	if len(dirs) == 0 {
		return errors.New("is empty: name at least one directory, such as /opt/cni/bin")
	}
	for _, dir := range dirs {
		if err := checkPath(dir); err != nil {
			return err
		}
		if strings.Contains(dir, ":") {
			return fmt.Errorf("%q contains a colon, which separates directories in CNI_PATH: write one directory per entry", dir)
		}
	}
	return nil
}

// checkLogLevel allows what slog.Level understands, but for its other spellings.
func checkLogLevel(name string) error {
	if !slices.Contains([]string{"debug", "info", "warn", "error"}, name) {
		return fmt.Errorf("%q is no log level: write debug, info, warn or error", name)
	}
	return nil
}

func checkImage(name string) error {
	if name == "" {
		return nil
	}
	if _, err := reference.ParseAnyReference(name); err != nil {
		return fmt.Errorf("%q is no image name: %w", name, err)
	}
	return nil
}

func checkAddress(address string) error {
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		return fmt.Errorf("%q is not host:port: write one such as 127.0.0.1:0", address)
	}
	if _, err := netip.ParseAddr(host); err != nil {
		return fmt.Errorf("%q is no IP address: write one such as 127.0.0.1", host)
	}
	if _, err := strconv.ParseUint(port, 10, 16); err != nil {
		return fmt.Errorf("%q is no port: write 0 to 65535", port)
	}
	return nil
}

// checkPair checks a path that may be empty; where it is not, the other's must not be.
func checkPair(path, otherKey, other string) error {
	switch {
	case path == "":
		return nil
	case other == "":
		return fmt.Errorf("certificate and key go together: set %s as well, or neither", otherKey)
	}
	return checkPath(path)
}

func checkMetricsAddress(address string) error {
	if address == "" {
		return nil
	}
	return checkAddress(address)
}

// checkPprof leaves an address that is none to its own check.
func checkPprof(m Metrics) error {
	at, err := netip.ParseAddrPort(m.Address)
	if m.Pprof && err == nil && !at.Addr().Unmap().IsLoopback() {
		return fmt.Errorf("profiles are not served on %s, which is no loopback address: set metrics.address to one such as 127.0.0.1:%d", m.Address, at.Port())
	}
	return nil
}

func checkEndpoint(endpoint string) error {
	if endpoint == "" {
		return nil
	}
	host, port, err := net.SplitHostPort(endpoint)
	if err != nil || host == "" {
		return fmt.Errorf("%q is not host:port: write one such as 127.0.0.1:4317, without http://", endpoint)
	}
	if n, err := strconv.ParseUint(port, 10, 16); err != nil || n == 0 {
		return fmt.Errorf("%q is no port: write 1 to 65535, such as 4317", port)
	}
	return nil
}

func checkPerMillion(n int) error {
	if n < 0 || n > 1_000_000 {
		return fmt.Errorf("%d is not from 0 to 1000000: 0 is none, 1000000 all", n)
	}
	return nil
}
