// Package config holds the daemon's settings: what there is to set, the defaults,
// and the loader that merges files and flags into one Config.
//
// Later sources win over earlier ones: defaults, /etc/mascri/config.toml,
// /etc/mascri/config.d/*.toml in lexical order, flags. A list replaces the list
// below it, it is never appended to.
package config

// DefaultPath is the file that is read where none is named. It may be missing.
const DefaultPath = "/etc/mascri/config.toml"

// Config is every setting of MasCRI. See options for what each means. Its keys are the
// same in JSON, as which the daemon shows it.
type Config struct {
	Socket       string    `toml:"socket" json:"socket"`
	StateDir     string    `toml:"state_dir" json:"state_dir"`
	LogLevel     string    `toml:"log_level" json:"log_level"`
	SandboxImage string    `toml:"sandbox_image" json:"sandbox_image"`
	Engine       Engine    `toml:"engine" json:"engine"`
	Network      Network   `toml:"network" json:"network"`
	Streaming    Streaming `toml:"streaming" json:"streaming"`
	Metrics      Metrics   `toml:"metrics" json:"metrics"`
	Tracing      Tracing   `toml:"tracing" json:"tracing"`
}

// Engine says where Docker Engine is and how it is used.
type Engine struct {
	Host        string `toml:"host" json:"host"`
	SharedShims bool   `toml:"shared_shims" json:"shared_shims"`
}

// Network says where CNI's configs and plugins are.
type Network struct {
	ConfigDir      string   `toml:"config_dir" json:"config_dir"`
	BinDirs        []string `toml:"bin_dirs" json:"bin_dirs"`
	DefaultNetwork bool     `toml:"default_network" json:"default_network"`
}

// Streaming says where exec, attach and port-forward connections are taken.
type Streaming struct {
	Address     string `toml:"address" json:"address"`
	TLSCertFile string `toml:"tls_cert_file" json:"tls_cert_file"`
	TLSKeyFile  string `toml:"tls_key_file" json:"tls_key_file"`
}

// Metrics says where Prometheus reads the daemon's metrics.
type Metrics struct {
	Address string `toml:"address" json:"address"`
	Pprof   bool   `toml:"pprof" json:"pprof"`
}

// Tracing says where traces of requests are sent.
type Tracing struct {
	Endpoint           string `toml:"endpoint" json:"endpoint"`
	SamplingPerMillion int    `toml:"sampling_per_million" json:"sampling_per_million"`
}

// Default returns the settings that hold where nothing is set.
func Default() Config {
	return Config{
		Socket:   "/run/mascri/mascri.sock",
		StateDir: "/var/lib/mascri",
		LogLevel: "info",
		Engine:   Engine{Host: "unix:///var/run/docker.sock", SharedShims: true},
		Network: Network{
			ConfigDir:      "/etc/cni/net.d",
			BinDirs:        []string{"/opt/cni/bin", "/usr/lib/cni", "/usr/libexec/cni"},
			DefaultNetwork: true,
		},
		Streaming: Streaming{Address: "127.0.0.1:0"},
		Metrics:   Metrics{Address: "127.0.0.1:10247"},
		Tracing:   Tracing{SamplingPerMillion: 1_000_000},
	}
}
