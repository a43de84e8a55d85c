package e2e

// others is what becomes of something in other runtimes, by their sources.
type others struct{ criDockerd, containerd, crio string }

func (o others) String() string {
	cells := []string{o.criDockerd, o.containerd, o.crio}
	text := ""
	for i, cell := range cells {
		if cell == "" {
			cell = "yes"
		}
		if i > 0 {
			text += " | "
		}
		text += cell
	}
	return text
}

// otherRPCs are the RPCs that another runtime does not serve like most; an RPC that is not
// here, and a cell that is empty, is served.
var otherRPCs = map[string]others{
	"StreamPodSandboxes":        {"no", "", "no"},
	"StreamContainers":          {"no", "", "no"},
	"UpdateContainerResources":  {"of CPU, memory and cpusets; the others are ignored", "", ""},
	"ReopenContainerLog":        {"refused: Docker can't", "", ""},
	"PortForward":               {"by `socat` and `nsenter` on the node", "", ""},
	"StreamContainerStats":      {"no", "", "no"},
	"PodSandboxStats":           {"no", "", ""},
	"ListPodSandboxStats":       {"no", "", ""},
	"StreamPodSandboxStats":     {"no", "", "no"},
	"UpdateRuntimeConfig":       {"", "writes a CNI config, if it has a template for one", "accepted, without effect"},
	"CheckpointContainer":       {"no", "by CRIU", "by CRIU, if switched on"},
	"CheckpointPod":             {"no", "no", "no"},
	"RestorePod":                {"no", "no", "no"},
	"GetContainerEvents":        {"no", "", "if switched on"},
	"ListMetricDescriptors":     {"no", "", ""},
	"ListPodSandboxMetrics":     {"no", "", ""},
	"StreamPodSandboxMetrics":   {"no", "", "no"},
	"UpdatePodSandboxResources": {"no", "", "told to NRI plugins only"},
	"StreamImages":              {"no", "", "no"},
}

// comparedFields are fields that another runtime does not honour, or does where MasCRI does not.
var comparedFields = []struct {
	rpc, path string
	others    others
}{
	{"RunPodSandbox", "config.linux.overhead", others{"ignored", "", ""}},
	{"RunPodSandbox", "config.linux.security_context.namespace_options.userns_options.uids", others{"ignored", "", ""}},
	{"CreateContainer", "config.stop_signal", others{"unknown", "", ""}},
	{"CreateContainer", "config.CDI_devices", others{"ignored", "", ""}},
	{"CreateContainer", "config.mounts.image.image", others{"unknown", "", ""}},
	{"CreateContainer", "config.mounts.image_sub_path", others{"unknown", "", ""}},
	{"CreateContainer", "config.mounts.mount_options", others{"unknown", "ignored", "unknown"}},
	{"CreateContainer", "config.mounts.recursive_read_only", others{"", "", ""}},
	{"CreateContainer", "config.mounts.uidMappings", others{"ignored", "", ""}},
	{"CreateContainer", "config.linux.resources.hugepage_limits.limit", others{"ignored", "", ""}},
	{"CreateContainer", "config.linux.resources.memory_swap_limit_in_bytes", others{"ignored: no swap", "", ""}},
	{"CreateContainer", "config.linux.resources.unified", others{"ignored", "", ""}},
	{"CreateContainer", "config.linux.security_context.apparmor.profile_type", others{"ignored; the older `apparmor_profile` is honoured", "", ""}},
	{"CreateContainer", "config.linux.security_context.capabilities.add_ambient_capabilities", others{"ignored", "ignored", "ignored"}},
	{"CreateContainer", "config.linux.security_context.supplemental_groups_policy", others{"unknown", "", ""}},
}
