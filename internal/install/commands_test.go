package install

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestCommandsFollowWhatChanged(t *testing.T) {
	systemd := Options{Root: "/", Units: Units{Wanted: true}, Engine: Engine{Running: true, Systemd: true, PID: 7, ConfigFile: DockerConfig}}
	bare := systemd
	bare.Units.Wanted, bare.Engine.Systemd = false, false
	image := systemd
	image.Root = "/image"
	all := changes{programPath, unitDir + "/mascri.service", unitDir + "/kubelet.service.d/20-mascri.conf", DockerConfig, modulesPath, sysctlPath}
	for name, tt := range map[string]struct {
		options Options
		changed changes
		want    []string
	}{
		"nothing":              {systemd, nil, nil},
		"CNI plugins, crictl":  {systemd, changes{pluginDir + "/bridge", crictlPath}, nil},
		"the program":          {systemd, changes{programPath}, []string{"systemctl restart mascri.socket mascri.service"}},
		"the daemon's setting": {systemd, changes{"/etc/mascri/config.d/10-kubernetes.toml"}, []string{"systemctl restart mascri.socket mascri.service"}},
		"the kubelet's unit":   {systemd, changes{unitDir + "/kubelet.service.d/20-mascri.conf"}, []string{"systemctl daemon-reload"}},
		"all": {systemd, all, []string{"modprobe -a overlay br_netfilter", "sysctl -q -p " + sysctlPath, "systemctl reload docker.service",
			"systemctl daemon-reload", "systemctl restart mascri.socket mascri.service"}},
		"all, without systemd": {bare, all, []string{"modprobe -a overlay br_netfilter", "sysctl -q -p " + sysctlPath, "kill -HUP 7"}},
		"all, of an image":     {image, all, nil},
	} {
		t.Run(name, func(t *testing.T) {
			var got []string
			for _, c := range tt.options.commands(tt.changed) {
				got = append(got, strings.Join(c.Args, " "))
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("commands (-want +got):\n%s", diff)
			}
		})
	}
}

func TestLiveRestoreIsLeftWhereItCanNotBe(t *testing.T) {
	for name, tt := range map[string]struct {
		engine Engine
		note   string
	}{
		"in force":            {Engine{LiveRestore: true}, ""},
		"on the command line": {Engine{LiveRestoreFlag: true}, "the engine is started with --live-restore=false"},
		"in a swarm":          {Engine{Swarm: true}, "the engine is a node of a swarm"},
	} {
		t.Run(name, func(t *testing.T) {
			files, note, err := Options{Root: t.TempDir(), Engine: tt.engine}.engineConfig()
			if len(files) > 0 || !strings.HasPrefix(note, tt.note) || (note == "") != (tt.note == "") || err != nil {
				t.Errorf("%v, %q, %v; want a note %q", files, note, err, tt.note)
			}
		})
	}
}

func TestLookAtProcess(t *testing.T) {
	for line, want := range map[string]Engine{
		"/usr/sbin/dockerd -H fd://":                         {PID: 12, ConfigFile: DockerConfig},
		"dockerd --config-file /etc/d.json --live-restore":   {PID: 12, ConfigFile: "/etc/d.json", LiveRestoreFlag: true},
		"dockerd --config-file=/d.json --live-restore=false": {PID: 12, ConfigFile: "/d.json", LiveRestoreFlag: true},
	} {
		proc := t.TempDir()
		for pid, comm := range map[string]string{"1": "systemd", "12": "dockerd", "self": "dockerd"} {
			dir := filepath.Join(proc, pid)
			if err := os.Mkdir(dir, 0o755); err != nil {
				t.Fatal(err)
			}
			for name, text := range map[string]string{"comm": comm + "\n", "cmdline": strings.ReplaceAll(line, " ", "\x00") + "\x00"} {
				if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
					t.Fatal(err)
				}
			}
		}
		got := Engine{ConfigFile: DockerConfig}
		LookAtProcess(proc, &got)
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%q (-want +got):\n%s", line, diff)
		}
	}
}
