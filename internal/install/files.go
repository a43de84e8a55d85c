package install

import (
	"bytes"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
)

// Paths on the machine.
const (
	programPath = "/usr/local/bin/mascri"
	unitDir     = "/etc/systemd/system"
	pluginDir   = "/opt/cni/bin"
	crictlPath  = "/etc/crictl.yaml"
	sysctlPath  = "/etc/sysctl.d/99-mascri-kubernetes.conf"
	modulesPath = "/etc/modules-load.d/mascri-kubernetes.conf"
)

// DockerConfig is where Docker Engine's configuration is unless it is told otherwise.
const DockerConfig = "/etc/docker/daemon.json"

// PluginDir is where CNI plugins go.
const PluginDir = pluginDir

// file is one that is to be there.
type file struct {
	path string
	data []byte
	link string // what the path is a symbolic link to, instead
	mode fs.FileMode
	uid  int
	gid  int
	why  string
	keep bool // whatever is there already stays
	// merged and before are those of entry.
	merged bool
	before string
}

// wanted returns all files that are to be there, in the order in which they are made.
func (o Options) wanted() ([]file, []string, error) {
	var notes []string
	files, err := o.plugins()
	if err != nil {
		return nil, nil, err
	}
	if unit := o.packaged(); unit != "" {
		notes = append(notes, unit+" is there: mascri comes from a package, whose program and units are used")
	} else {
		program, err := os.ReadFile(o.Program)
		if err != nil {
			return nil, nil, err
		}
		files = append(files, file{path: programPath, data: program, mode: 0o755, why: "mascri itself"})
		if o.Units.Wanted {
			files = append(files, o.units()...)
		}
	}
	if !o.Units.Wanted {
		notes = append(notes, "there is no systemd here, so that no units are installed: have your init run \"mascri serve\" as root, and start it again whenever it ends")
	}
	files = append(files, file{path: crictlPath, data: crictlConfig(o.Units.Endpoint), mode: 0o644, why: "crictl talks to MasCRI"})
	engine, note, err := o.engineConfig()
	if err != nil {
		return nil, nil, err
	}
	files = append(files, engine...)
	if note != "" {
		notes = append(notes, note)
	}
	if o.Kubernetes {
		files = append(files, o.kubernetes()...)
		notes = append(notes, o.kubernetesNotes()...)
	}
	return files, notes, nil
}

func (o Options) plugins() ([]file, error) {
	if o.Plugins == "" {
		return nil, nil
	}
	entries, err := os.ReadDir(o.Plugins)
	if err != nil {
		return nil, fmt.Errorf("CNI plugins: %w", err)
	}
	var files []file
	for _, entry := range entries {
		path := filepath.Join(o.Plugins, entry.Name())
		stat, err := os.Stat(path)
		if err != nil {
			return nil, fmt.Errorf("CNI plugins: %w", err)
		}
		if !stat.Mode().IsRegular() || stat.Mode()&0o111 == 0 {
			continue
		}
		data, err := os.ReadFile(path)
		if err != nil {
			return nil, fmt.Errorf("CNI plugins: %w", err)
		}
		files = append(files, file{path: filepath.Join(pluginDir, entry.Name()), data: data, mode: 0o755, why: "CNI plugin, absent so far", keep: true})
	}
	if len(files) == 0 {
		return nil, fmt.Errorf("CNI plugins: %s has no programs in it", o.Plugins)
	}
	return files, nil
}

// packaged returns the unit of a package that is installed, "" for none.
func (o Options) packaged() string {
	for _, dir := range []string{"/usr/lib/systemd/system", "/lib/systemd/system"} {
		unit := filepath.Join(dir, "mascri.service")
		if _, err := os.Stat(o.place(unit)); err == nil {
			return unit
		}
	}
	return ""
}

// units are the units and the links by which "systemctl enable" enables them.
func (o Options) units() []file {
	service, socket := filepath.Join(unitDir, "mascri.service"), filepath.Join(unitDir, "mascri.socket")
	return []file{
		{path: service, data: o.Units.Service, mode: 0o644, why: "the daemon: started again when it ends, watched, after docker.service"},
		{path: socket, data: o.Units.Socket, mode: 0o644, why: "its socket " + o.Units.Endpoint + ", there before the daemon is"},
		{path: filepath.Join(unitDir, "multi-user.target.wants/mascri.service"), link: service, why: "the daemon is started at boot"},
		{path: filepath.Join(unitDir, "sockets.target.wants/mascri.socket"), link: socket, why: "and the socket"},
	}
}

func crictlConfig(endpoint string) []byte {
	return fmt.Appendf(nil, "# By mascri install.\nruntime-endpoint: unix://%[1]s\nimage-endpoint: unix://%[1]s\n", endpoint)
}

// engineConfig is the engine's configuration with live-restore, or a note why it is left.
func (o Options) engineConfig() ([]file, string, error) {
	switch path := o.Engine.ConfigFile; {
	case o.Engine.LiveRestore:
		return nil, "", nil
	case o.Engine.Swarm:
		return nil, "the engine is a node of a swarm, with which live-restore can't be: pods end whenever the engine does", nil
	case o.Engine.LiveRestoreFlag:
		return nil, "the engine is started with --live-restore=false: without it pods end whenever the engine does; change that where it is set", nil
	default:
		old, err := os.ReadFile(o.place(path))
		if err != nil && !os.IsNotExist(err) {
			return nil, "", err
		}
		text, before, err := setMember(old, liveRestoreKey, "true")
		if err != nil {
			return nil, "", fmt.Errorf("%s:%w; mend it first: the engine would not start with it", path, err)
		}
		f := file{path: path, data: text, mode: 0o644, why: "\"live-restore\": true: pods outlive a restart of the engine", merged: true, before: before}
		if stat, err := os.Stat(o.place(path)); err == nil {
			f.like(stat)
		}
		return []file{f}, "", nil
	}
}

// like gives f the mode and the owner of a file that it replaces.
func (f *file) like(stat fs.FileInfo) {
	f.mode = stat.Mode().Perm()
	if sys, ok := stat.Sys().(*syscall.Stat_t); ok {
		f.uid, f.gid = int(sys.Uid), int(sys.Gid)
	}
}

// kubernetes is what kubeadm's preflight checks and the kubelet ask for.
func (o Options) kubernetes() []file {
	files := []file{
		{path: modulesPath, data: []byte("overlay\nbr_netfilter\n"), mode: 0o644, why: "kernel modules at boot: bridged packets pass kube-proxy's rules"},
		{path: sysctlPath, data: []byte("net.ipv4.ip_forward = 1\nnet.bridge.bridge-nf-call-iptables = 1\nnet.bridge.bridge-nf-call-ip6tables = 1\n"), mode: 0o644, why: "kernel settings at boot: forwarding, and the same"},
		{path: "/etc/mascri/config.d/10-kubernetes.toml", data: []byte("# The pods' network comes from the cluster.\n[network]\ndefault_network = false\n"), mode: 0o644, why: "no network of MasCRI's own: the pods' network comes from the cluster"},
	}
	if o.Units.Wanted {
		files = append(files, file{path: filepath.Join(unitDir, "kubelet.service.d/20-mascri.conf"), mode: 0o644, why: "the kubelet uses MasCRI, and is started after it",
			data: fmt.Appendf(nil, "[Unit]\nWants=mascri.service\nAfter=mascri.service\n\n[Service]\nEnvironment=\"KUBELET_EXTRA_ARGS=--container-runtime-endpoint=unix://%s\"\n", o.Units.Endpoint)})
	}
	return files
}

func (o Options) kubernetesNotes() []string {
	notes := []string{"with kubeadm: kubeadm init --cri-socket unix://" + o.Units.Endpoint + " (and the same with join)"}
	if o.Swap {
		notes = append(notes, "this machine swaps, with which a kubelet does not start by default: swapoff --all and remove swap from /etc/fstab, or set failSwapOn: false in the kubelet's configuration")
	}
	for _, path := range []string{"/etc/default/kubelet", "/etc/sysconfig/kubelet"} {
		text, err := os.ReadFile(o.place(path))
		if err == nil && bytes.Contains(text, []byte("KUBELET_EXTRA_ARGS")) && !bytes.Contains(text, []byte(o.Units.Endpoint)) {
			notes = append(notes, path+" sets KUBELET_EXTRA_ARGS, which counts more than what is set here: add --container-runtime-endpoint=unix://"+o.Units.Endpoint+" to it")
		}
	}
	return notes
}
