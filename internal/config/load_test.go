package config

import (
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/spf13/pflag"
)

// writeFiles makes a directory that holds files by relative name.
func writeFiles(t *testing.T, files map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	for name, text := range files {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func TestLaterSourceWins(t *testing.T) {
	dir := writeFiles(t, map[string]string{
		"config.toml":            "socket = '/run/main.sock'\nlog_level = 'debug'\n[network]\nbin_dirs = ['/main1', '/main2', '/main3', '/main4']\n",
		"config.d/10-a.toml":     "log_level = 'warn'\nstate_dir = '/var/a'\n",
		"config.d/20-b.toml":     "state_dir = '/var/b'\nnetwork = {bin_dirs = ['/b'], default_network = false}\n",
		"config.d/.hidden.toml":  "socket = '/hidden.sock'\n",
		"config.d/30-c.toml.bak": "socket = '/backup.sock'\n",
	})
	set := pflag.NewFlagSet("mascri", pflag.ContinueOnError)
	flags := NewFlags(set)
	args := []string{"--config", filepath.Join(dir, "config.toml"), "--state-dir=/var/flag", "--engine-host", "unix:///flag.sock"}
	if err := set.Parse(args); err != nil {
		t.Fatal(err)
	}
	l, err := flags.Load()
	if err != nil {
		t.Fatal(err)
	}
	want := Default()
	want.Socket = "/run/main.sock"
	want.LogLevel = "warn"
	want.StateDir = "/var/flag"
	want.Engine.Host = "unix:///flag.sock"
	want.Network.BinDirs = []string{"/b"}
	want.Network.DefaultNetwork = false
	if diff := cmp.Diff(want, l.Config); diff != "" {
		t.Errorf("config (-want +got):\n%s", diff)
	}
	wantOrigins := map[string]string{
		"socket":                  dir + "/config.toml:1:1",
		"log_level":               dir + "/config.d/10-a.toml:1:1",
		"state_dir":               "--state-dir",
		"sandbox_image":           "default",
		"engine.host":             "--engine-host",
		"engine.shared_shims":     "default",
		"network.config_dir":      "default",
		"network.bin_dirs":        dir + "/config.d/20-b.toml:2:12",
		"network.default_network": dir + "/config.d/20-b.toml:2:31",
		"streaming.address":       "default",
		"streaming.tls_cert_file": "default",
		"streaming.tls_key_file":  "default",

		"metrics.address":              "default",
		"metrics.pprof":                "default",
		"tracing.endpoint":             "default",
		"tracing.sampling_per_million": "default",
	}
	got := map[string]string{}
	for _, o := range options() {
		got[o.key] = l.Origin(o.key)
	}
	if diff := cmp.Diff(wantOrigins, got); diff != "" {
		t.Errorf("origins (-want +got):\n%s", diff)
	}
}

func TestEveryFlagReplacesEveryOption(t *testing.T) {
	set := pflag.NewFlagSet("mascri", pflag.ContinueOnError)
	flags := NewFlags(set)
	dir := writeFiles(t, map[string]string{"config.toml": ""})
	err := set.Parse([]string{
		"--config=" + dir + "/config.toml", "--socket=/s", "--state-dir=/d", "--log-level=error", "--sandbox-image=i:1",
		"--engine-host=unix:///e", "--cni-conf-dir=/c", "--cni-bin-dir=/b1", "--cni-bin-dir=/b2", "--default-network=false",
		"--shared-shims=false", "--streaming-address=[::1]:7", "--streaming-tls-cert-file=/cert", "--streaming-tls-key-file=/key",
		"--metrics-address=127.0.0.1:1", "--metrics-pprof", "--tracing-endpoint=collector:4317", "--tracing-sampling-per-million=5",
	})
	if err != nil {
		t.Fatal(err)
	}
	l, err := flags.Load()
	if err != nil {
		t.Fatal(err)
	}
	want := Config{
		Socket: "/s", StateDir: "/d", LogLevel: "error", SandboxImage: "i:1",
		Engine:    Engine{Host: "unix:///e"},
		Network:   Network{ConfigDir: "/c", BinDirs: []string{"/b1", "/b2"}, DefaultNetwork: false},
		Streaming: Streaming{Address: "[::1]:7", TLSCertFile: "/cert", TLSKeyFile: "/key"},
		Metrics:   Metrics{Address: "127.0.0.1:1", Pprof: true},
		Tracing:   Tracing{Endpoint: "collector:4317", SamplingPerMillion: 5},
	}
	if diff := cmp.Diff(want, l.Config); diff != "" {
		t.Errorf("config (-want +got):\n%s", diff)
	}
}

// long is a socket's path of n bytes.
func long(n int) string { return "/" + strings.Repeat("s", n-1) }

func TestErrorsNameThePlaceAndTheFix(t *testing.T) {
	tests := []struct {
		name string
		doc  string
		want string // after "FILE:", for each line
	}{
		{"broken TOML", "socket = '/a'\nstate_dir\n", "2:10: expected '=' after key"},
		{"the same key twice", "socket = '/a'\nsocket = '/b'\n", "2:1: key socket is already defined"},
		{"not UTF-8", "socket = '\xff'\n", "1:11: invalid UTF-8 character in literal string"},
		{"misspelt key", "\nsockt = '/a'\n", `2:1: unknown key "sockt": did you mean "socket"?`},
		{"misspelt section", "[netwrk]\nconfig_dir = '/a'\n", `1:2: unknown key "netwrk": did you mean "network"?`},
		{"key outside its section", "bin_dirs = ['/a']\n", `1:1: unknown key "bin_dirs": did you mean "network.bin_dirs"?`},
		{"key like no other", "registry_mirror = ''\n", `1:1: unknown key "registry_mirror": "mascri config default" prints all there are`},
		{
			"several unknown keys", "sockt = ''\n[engine]\nhots = ''\n",
			`1:1: unknown key "sockt": did you mean "socket"?` + "\n" + `3:1: unknown key "engine.hots": did you mean "engine.host"?`,
		},
		{"number for a string", "\nsocket = 3\n", "2:10: socket must be a string in quotes"},
		{"string for a boolean", "[network]\ndefault_network = 'no'\n", "2:19: network.default_network must be true or false"},
		{"string for a list", "[network]\nbin_dirs = '/a'\n", `2:12: network.bin_dirs must be a list of strings, such as ["/a", "/b"]`},
		{"value for a section", "engine = 'unix:///a'\n", `1:10: "engine" is a section: write [engine] on a line of its own, and its keys below`},
		{"relative path", "state_dir = 'var'\n", `1:1: state_dir: "var" is not an absolute path: begin it with /`},
		{"empty path", "state_dir = ''\n", "1:1: state_dir: is empty: write an absolute path"},
		{"NUL in a path", `state_dir = "/a\u0000b"`, `1:1: state_dir: "/a\x00b" contains a NUL byte, which no path may`},
		{"socket as a URL", "socket = 'unix:///run/a'\n", `1:1: socket: "unix:///run/a" is a URL: write the path alone, "/run/a"`},
		{"socket path too long", "socket = '" + long(104) + "'\n", "1:1: socket: path has 104 bytes, and a socket's may have 103: choose a shorter one"},
		{"unknown log level", "log_level = 'INFO'\n", `1:1: log_level: "INFO" is no log level: write debug, info, warn or error`},
		{"image with a space", "sandbox_image = 'a b'\n", `1:1: sandbox_image: "a b" is no image name: invalid reference format`},
		{
			"remote engine", "[engine]\n  host = 'tcp://10.0.0.1:2375'\n",
			`2:3: engine.host: "tcp://10.0.0.1:2375" is not a unix socket: write unix:///path/to/docker.sock; ` +
				"an engine behind tcp or ssh has other files and network namespaces than this machine",
		},
		{"engine socket too long", "[engine]\nhost = 'unix://" + long(108) + "'\n", "2:1: engine.host: after unix://, path has 108 bytes, and a socket's may have 107: choose a shorter one"},
		{"engine socket relative", "engine.host = 'unix://a'\n", `1:1: engine.host: after unix://, "a" is not an absolute path: begin it with /`},
		{"no binary directory", "[network]\nbin_dirs = []\n", "2:1: network.bin_dirs: is empty: name at least one directory, such as /opt/cni/bin"},
		{"relative binary directory", "network.bin_dirs = ['/a', 'b']\n", `1:1: network.bin_dirs: "b" is not an absolute path: begin it with /`},
		{"two binary directories in one", "network.bin_dirs = ['/a:/b']\n", `1:1: network.bin_dirs: "/a:/b" contains a colon, which separates directories in CNI_PATH: write one directory per entry`},
		{"streams on a name", "streaming.address = 'localhost:1'\n", `1:1: streaming.address: "localhost" is no IP address: write one such as 127.0.0.1`},
		{"streams without a port", "streaming.address = '127.0.0.1'\n", `1:1: streaming.address: "127.0.0.1" is not host:port: write one such as 127.0.0.1:0`},
		{"metrics without a port", "metrics.address = '127.0.0.1'\n", `1:1: metrics.address: "127.0.0.1" is not host:port: write one such as 127.0.0.1:0`},
		{"profiles for all", "[metrics]\naddress = '0.0.0.0:1'\npprof = true\n", `3:1: metrics.pprof: profiles are not served on 0.0.0.0:1, which is no loopback address: set metrics.address to one such as 127.0.0.1:1`},
		{"a collector's URL", "tracing.endpoint = 'http://127.0.0.1:4317'\n", `1:1: tracing.endpoint: "http://127.0.0.1:4317" is not host:port: write one such as 127.0.0.1:4317, without http://`},
		{"a collector without a port", "tracing.endpoint = '127.0.0.1:0'\n", `1:1: tracing.endpoint: "0" is no port: write 1 to 65535, such as 4317`},
		{"more than all", "tracing.sampling_per_million = 1000001\n", `1:1: tracing.sampling_per_million: 1000001 is not from 0 to 1000000: 0 is none, 1000000 all`},
		{"a share in words", "tracing.sampling_per_million = 'all'\n", `1:32: tracing.sampling_per_million must be a whole number`},
		{"streams on no port", "streaming.address = '127.0.0.1:99999'\n", `1:1: streaming.address: "99999" is no port: write 0 to 65535`},
		{
			"certificate without a key", "streaming.tls_cert_file = '/c'\n",
			`1:1: streaming.tls_cert_file: certificate and key go together: set streaming.tls_key_file as well, or neither`,
		},
		{
			"several wrong values", "log_level = 'x'\n[network]\nconfig_dir = 'x'\n",
			`1:1: log_level: "x" is no log level: write debug, info, warn or error` + "\n" + `3:1: network.config_dir: "x" is not an absolute path: begin it with /`,
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			file := filepath.Join(writeFiles(t, map[string]string{"config.toml": tt.doc}), "config.toml")
			_, err := Load(file)
			if err == nil {
				t.Fatal("no error")
			}
			want := file + ":" + strings.ReplaceAll(tt.want, "\n", "\n"+file+":")
			if diff := cmp.Diff(want, err.Error()); diff != "" {
				t.Errorf("error (-want +got):\n%s", diff)
			}
		})
	}
}

func TestErrorsOfAllFilesAreJoined(t *testing.T) {
	dir := writeFiles(t, map[string]string{"config.toml": "sockt = ''\n", "config.d/a.toml": "\n="})
	_, err := Load(dir + "/config.toml")
	want := dir + `/config.toml:1:1: unknown key "sockt": did you mean "socket"?` + "\n" + dir + "/config.d/a.toml:2:1: "
	if err == nil || !strings.HasPrefix(err.Error(), want) {
		t.Errorf("got %v, want it to begin with\n%s", err, want)
	}
}

func TestWrongFlagIsNamed(t *testing.T) {
	set := pflag.NewFlagSet("mascri", pflag.ContinueOnError)
	flags := NewFlags(set)
	dir := writeFiles(t, map[string]string{"config.toml": "socket = '/good'\n"})
	if err := set.Parse([]string{"--config", dir + "/config.toml", "--socket=bad"}); err != nil {
		t.Fatal(err)
	}
	_, err := flags.Load()
	want := `--socket: socket: "bad" is not an absolute path: begin it with /`
	if err == nil || err.Error() != want {
		t.Errorf("got %v, want %s", err, want)
	}
}

func TestWrongValueThatIsReplacedDoesNoHarm(t *testing.T) {
	dir := writeFiles(t, map[string]string{"config.toml": "log_level = 'loud'\n", "config.d/a.toml": "log_level = 'warn'\n"})
	c, err := Load(dir + "/config.toml")
	if err != nil || c.LogLevel != "warn" {
		t.Errorf("log level %q, error %v", c.LogLevel, err)
	}
}

func TestLimitsAreAllowed(t *testing.T) {
	dir := writeFiles(t, map[string]string{
		"config.toml": "socket = '" + long(103) + "'\nsandbox_image = 'sha256:" + strings.Repeat("a", 64) + "'\n",
	})
	if _, err := Load(dir + "/config.toml"); err != nil {
		t.Error(err)
	}
}

func TestNamedFileMustExist(t *testing.T) {
	_, err := Load(filepath.Join(t.TempDir(), "config.toml"))
	if err == nil || !strings.Contains(err.Error(), "no such file") {
		t.Errorf("got %v", err)
	}
}

func TestUnreadableFilesAreErrors(t *testing.T) {
	for name, files := range map[string]map[string]string{
		"a directory for config.d's file": {"config.toml": "", "config.d/a.toml/x": ""},
		"a file for config.d":             {"config.toml": "", "config.d": ""},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := Load(writeFiles(t, files) + "/config.toml")
			if err == nil || !strings.Contains(err.Error(), "config.d") {
				t.Errorf("got %v, want an error that names config.d", err)
			}
		})
	}
}

func TestKeysAreTakenInAnyCase(t *testing.T) {
	dir := writeFiles(t, map[string]string{"config.toml": "Socket = '/upper'\n"})
	l, err := load(dir+"/config.toml", nil)
	if err != nil {
		t.Fatal(err)
	}
	if l.Socket != "/upper" || l.Origin("socket") != dir+"/config.toml:1:1" {
		t.Errorf("socket %q from %s", l.Socket, l.Origin("socket"))
	}
}

func TestLogLevelsAreThoseOfSlog(t *testing.T) {
	for _, name := range []string{"debug", "info", "warn", "error"} {
		var level slog.Level
		if err := checkLogLevel(name); err != nil {
			t.Error(err)
		}
		if err := level.UnmarshalText([]byte(name)); err != nil || strings.ToLower(level.String()) != name {
			t.Errorf("%q is %v to slog, %v", name, level, err)
		}
	}
}
