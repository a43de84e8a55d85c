package config

import (
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"

	"github.com/distribution/reference"
)

// maxSocketPath is the length in bytes of sockaddr_un.sun_path on Linux, less its
// closing NUL.
const maxSocketPath = 107

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

func checkSocket(path string) error {
	if rest, ok := strings.CutPrefix(path, "unix://"); ok {
		return fmt.Errorf("%q is a URL: write the path alone, %q", path, rest)
	}
	if err := checkPath(path); err != nil {
		return err
	}
	if len(path) > maxSocketPath {
		return fmt.Errorf("path has %d bytes, and a socket's may have %d: choose a shorter one", len(path), maxSocketPath)
	}
	return nil
}

func checkEngineHost(host string) error {
	path, ok := strings.CutPrefix(host, "unix://")
	if !ok {
		return fmt.Errorf("%q is not a unix socket: write unix:///path/to/docker.sock; "+
			"an engine behind tcp or ssh has other files and network namespaces than this machine", host)
	}
	if err := checkSocket(path); err != nil {
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
