package pod

// EngineFacts is what MasCRI knows of the Docker Engine behind it. It is read
// when the engine is reached and after each reconnect.
type EngineFacts struct {
	Version        string   `json:"version"`       // such as 28.5.2
	APIVersion     string   `json:"apiVersion"`    // as negotiated, such as 1.51
	CgroupDriver   string   `json:"cgroupDriver"`  // "cgroupfs" or "systemd"
	CgroupVersion  string   `json:"cgroupVersion"` // "1" or "2"
	RootDir        string   `json:"rootDir"`
	Kernel         string   `json:"kernel"`
	DefaultRuntime string   `json:"defaultRuntime"`
	Runtimes       []string `json:"runtimes"` // sorted; the runtime handlers
	SELinux        bool     `json:"selinux"`
	AppArmor       bool     `json:"apparmor"`
	Seccomp        bool     `json:"seccomp"`
	LiveRestore    bool     `json:"liveRestore"`
	Swarm          bool     `json:"swarm"`     // it is a node of a swarm, which rules LiveRestore out
	SwapLimit      bool     `json:"swapLimit"` // swap can be limited: the kernel accounts for it
	CDI            bool     `json:"cdi"`       // devices can be asked for by CDI
	// RecursiveRO are the runtimes that can make mounts recursively read-only, sorted.
	RecursiveRO    []string `json:"recursiveReadOnly"`
	FirewallDriver string   `json:"firewallDriver"` // "iptables", "nftables" or "" where the engine does not say
	// Problems are the engine's settings under which pods can't work. Any one of
	// them makes RuntimeReady false.
	Problems []Problem `json:"problems,omitempty"`
}

// Problem is something wrong that an operator can mend.
type Problem struct {
	Reason  string `json:"reason"`  // brief CamelCase
	Message string `json:"message"` // what is wrong
	Fix     string `json:"fix"`     // what to do
}
