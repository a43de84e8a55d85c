package config

import "slices"

// An option is one setting: a key of the files and a flag of the command line.
type option struct {
	key   string // dotted, such as "network.bin_dirs"
	flag  string // without the dashes
	usage string // one line, for --help and the file
	doc   string // what else a reader of the file should know
	after string // for what a change counts, once the daemon was restarted; for the reference
	// field returns the setting's place in a Config: *string, *bool, *int or *[]string.
	field func(*Config) any
	// check tells what is wrong with the value and what to write instead.
	check func(Config) error
}

// options is the one list of all settings. Flags, "config default" and "config
// show" are made from it; keys without a dot come first, as TOML needs them.
func options() []option {
	return slices.Concat(daemonOptions(), engineOptions(), networkOptions(), streamingOptions(), metricsOptions(), tracingOptions())
}

func daemonOptions() []option {
	return []option{
		{
			key: "socket", flag: "socket",
			usage: "socket that the kubelet and crictl talk to",
			doc:   "The socket belongs to root and has mode 0660. Its path has at most 103 bytes.",
			after: "for all clients: change the kubelet's `containerRuntimeEndpoint`, too",
			field: func(c *Config) any { return &c.Socket },
			check: func(c Config) error { return checkSocket(c.Socket, maxOwnSocketPath) },
		},
		{
			key: "state_dir", flag: "state-dir",
			usage: "directory of what must survive a restart",
			doc:   "Attachment records and the pod CIDR are kept here.",
			after: "for all pods: with another directory it is another daemon, which leaves the pods of the first alone. Remove all pods first",
			field: func(c *Config) any { return &c.StateDir },
			check: func(c Config) error { return checkPath(c.StateDir) },
		},
		{
			key: "log_level", flag: "log-level",
			usage: "least severe message to log: debug, info, warn or error",
			after: "for log lines from then on",
			field: func(c *Config) any { return &c.LogLevel },
			check: func(c Config) error { return checkLogLevel(c.LogLevel) },
		},
		{
			key: "sandbox_image", flag: "sandbox-image",
			usage: "image of the sandbox containers; empty: the one inside mascri",
			doc: "The image inside mascri needs no registry. One named here must be in the engine\n" +
				"already.",
			after: "for pods that are made from then on",
			field: func(c *Config) any { return &c.SandboxImage },
			check: func(c Config) error { return checkImage(c.SandboxImage) },
		},
	}
}

func engineOptions() []option {
	return []option{
		{
			key: "engine.host", flag: "engine-host",
			usage: "socket of Docker Engine, on this machine",
			doc: "The environment variable DOCKER_HOST is not consulted: the daemon must not change\n" +
				"engines with the shell it was started from.",
			after: "for all pods: those of the old engine are not served any more. Remove all pods first",
			field: func(c *Config) any { return &c.Engine.Host },
			check: func(c Config) error { return checkEngineHost(c.Engine.Host) },
		},
		{
			key: "engine.shared_shims", flag: "shared-shims",
			usage: "let the containers of a pod share one containerd shim",
			doc: "A shim takes some 19 MB and 20 ms to start. A pod's containers all end if theirs is\n" +
				"killed, as with containerd itself. Engines before 24 have a shim for each container.",
			after: "for pods that are made from then on",
			field: func(c *Config) any { return &c.Engine.SharedShims },
			check: func(Config) error { return nil },
		},
	}
}

func networkOptions() []option {
	return []option{
		{
			key: "network.config_dir", flag: "cni-conf-dir",
			usage: "directory of the CNI configs",
			doc:   "The first valid .conf, .conflist or .json file in lexical order is used.",
			after: "for pods that are made from then on; others leave by the config that they came by",
			field: func(c *Config) any { return &c.Network.ConfigDir },
			check: func(c Config) error { return checkPath(c.Network.ConfigDir) },
		},
		{
			key: "network.bin_dirs", flag: "cni-bin-dir",
			usage: "directory of CNI plugins; may be given more than once",
			doc:   "Each plugin is taken from the first directory that has it.",
			after: "for every run of a plugin from then on, also for pods that are there",
			field: func(c *Config) any { return &c.Network.BinDirs },
			check: func(c Config) error { return checkBinDirs(c.Network.BinDirs) },
		},
		{
			key: "network.default_network", flag: "default-network",
			usage: "bring a network of MasCRI's own while the directory holds no valid CNI config",
			doc: "It is never written to the directory, and is off as soon as a pod CIDR arrives: set\n" +
				"it to false on a cluster's nodes, where the network comes from the cluster.",
			after: "for pods that are made from then on; pods that are on the default network stay there",
			field: func(c *Config) any { return &c.Network.DefaultNetwork },
			check: func(Config) error { return nil },
		},
	}
}

func streamingOptions() []option {
	return []option{
		{
			key: "streaming.address", flag: "streaming-address",
			usage: "where exec, attach and port-forward connections are taken, host:port",
			doc: "Port 0 is any that is free. The kubelet on this node connects to it. Who knows an\n" +
				"address that was given out may use it: keep it on loopback, or use TLS.",
			after: "for connections from then on; those that are open end with the restart",
			field: func(c *Config) any { return &c.Streaming.Address },
			check: func(c Config) error { return checkAddress(c.Streaming.Address) },
		},
		{
			key: "streaming.tls_cert_file", flag: "streaming-tls-cert-file",
			usage: "certificate (PEM) for these connections; empty: no TLS",
			after: "for connections from then on",
			field: func(c *Config) any { return &c.Streaming.TLSCertFile },
			check: func(c Config) error {
				return checkPair(c.Streaming.TLSCertFile, "streaming.tls_key_file", c.Streaming.TLSKeyFile)
			},
		},
		{
			key: "streaming.tls_key_file", flag: "streaming-tls-key-file",
			usage: "its private key (PEM)",
			after: "for connections from then on",
			field: func(c *Config) any { return &c.Streaming.TLSKeyFile },
			check: func(c Config) error {
				return checkPair(c.Streaming.TLSKeyFile, "streaming.tls_cert_file", c.Streaming.TLSCertFile)
			},
		},
	}
}

func metricsOptions() []option {
	return []option{
		{
			key: "metrics.address", flag: "metrics-address",
			usage: "where Prometheus reads metrics, host:port; empty: nowhere",
			doc: "Whoever reaches it may read. The port is next to the kubelet's own (10248 to 10250),\n" +
				"and no outgoing connection takes it. While something else has it, pods run without.",
			after: "for requests from then on; Prometheus has to be told",
			field: func(c *Config) any { return &c.Metrics.Address },
			check: func(c Config) error { return checkMetricsAddress(c.Metrics.Address) },
		},
		{
			key: "metrics.pprof", flag: "metrics-pprof",
			usage: "serve Go's profiles there, too, below /debug/pprof",
			doc:   "For loopback addresses only: profiles tell much, and cost CPU.",
			after: "for requests from then on",
			field: func(c *Config) any { return &c.Metrics.Pprof },
			check: func(c Config) error { return checkPprof(c.Metrics) },
		},
	}
}

func tracingOptions() []option {
	return []option{
		{
			key: "tracing.endpoint", flag: "tracing-endpoint",
			usage: "collector that traces are sent to by OTLP over gRPC, host:port; empty: none",
			doc:   "The connection is not encrypted: use a collector on this node, at 127.0.0.1:4317.",
			after: "for requests from then on",
			field: func(c *Config) any { return &c.Tracing.Endpoint },
			check: func(c Config) error { return checkEndpoint(c.Tracing.Endpoint) },
		},
		{
			key: "tracing.sampling_per_million", flag: "tracing-sampling-per-million",
			usage: "how many of a million requests are traced that bring no trace of their own",
			doc:   "Where the kubelet traces a request, it decides. Lists, status and stats begin no trace.",
			after: "for requests from then on",
			field: func(c *Config) any { return &c.Tracing.SamplingPerMillion },
			check: func(c Config) error { return checkPerMillion(c.Tracing.SamplingPerMillion) },
		},
	}
}
