package install

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// Options say what is to be installed, and on what.
type Options struct {
	// Root is the directory that the machine's files are in: "/", or that of an image
	// that is being built. Nothing is run where it is not "/".
	Root string
	// StateDir is where the manifest is, as all paths without Root.
	StateDir string
	// Program is the mascri that is copied, a path outside of Root.
	Program string
	// Plugins is a directory of CNI plugins, outside of Root; "" leaves /opt/cni/bin alone.
	Plugins string
	// Kubernetes adds what a kubelet needs.
	Kubernetes bool
	Units      Units
	Engine     Engine
	// Swap tells whether the machine swaps.
	Swap bool
}

// Units are for systemd.
type Units struct {
	Wanted          bool // the machine has systemd
	Service, Socket []byte
	Endpoint        string // where Socket listens
}

// Engine is what is known of the machine's engine.
type Engine struct {
	Running     bool
	Systemd     bool // it runs as docker.service
	PID         int  // of dockerd, 0: unknown
	ConfigFile  string
	LiveRestore bool // is in force
	// LiveRestoreFlag tells that the engine's command line says whether it is: then its
	// configuration file must not.
	LiveRestoreFlag bool
	Swarm           bool // is a node of a swarm, which rules live-restore out
}

// place turns a path on the machine into one of this process.
func (o Options) place(path string) string { return filepath.Join(o.Root, path) }

func (o Options) check() error {
	if o.Root == "/" {
		return nil
	}
	stat, err := os.Stat(o.Root)
	if err == nil && !stat.IsDir() {
		err = errors.New("is no directory")
	}
	if err != nil {
		return fmt.Errorf("--root %s: %w", o.Root, err)
	}
	return o.inside(o.manifestPath())
}

// inside refuses a path whose directory leads out of Root by a symbolic link: in an image
// that is being built, it means a directory of the image, and not of this machine.
func (o Options) inside(path string) error {
	if o.Root == "/" {
		return nil
	}
	root, err := filepath.EvalSymlinks(o.Root)
	if err != nil {
		return err
	}
	dir := filepath.Dir(o.place(path))
	for {
		real, err := filepath.EvalSymlinks(dir)
		if os.IsNotExist(err) && dir != o.Root {
			dir = filepath.Dir(dir)
			continue
		}
		if err != nil {
			return err
		}
		if real != root && !strings.HasPrefix(real, root+"/") {
			return fmt.Errorf("%s: a symbolic link leads out of --root, to %s; make it relative", path, real)
		}
		return nil
	}
}
