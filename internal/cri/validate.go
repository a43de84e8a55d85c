package cri

import (
	"fmt"
	"net/netip"
	"path"
	"regexp"
	"strings"

	cri "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/mascri/mascri/internal/pod"
)

const (
	// Kubernetes' own limit for all annotations of an object (apimachinery,
	// TotalAnnotationSizeLimitB); labels get the same.
	totalMapBytes = 256 << 10
	// sethostname(2): HOST_NAME_MAX.
	hostnameBytes = 64
)

var (
	hostnamePattern = regexp.MustCompile(`^[A-Za-z0-9]([A-Za-z0-9_.-]*[A-Za-z0-9])?$`)
	sysctlPattern   = regexp.MustCompile(`^[A-Za-z0-9_-]+([./][A-Za-z0-9_:@*-]+)+$`)
)

// validateSandbox refuses what no engine and no network could honour, with the name
// of the field. What depends on the engine is left to the engine's translation.
func validateSandbox(config *cri.PodSandboxConfig) error {
	if config == nil {
		return invalid("config", "missing; give a PodSandboxConfig")
	}
	if config.GetMetadata().GetName() == "" {
		return invalid("config.metadata.name", "missing; a sandbox is known by its metadata")
	}
	for _, check := range []func(*cri.PodSandboxConfig) error{
		validateHostname, validateDNS, validatePorts, validateMaps, validatePaths, validateNamespaces, validateProfiles, validateSysctls,
	} {
		if err := check(config); err != nil {
			return err
		}
	}
	return nil
}

func validateHostname(config *cri.PodSandboxConfig) error {
	name := config.GetHostname()
	if name == "" {
		return nil
	}
	if len(name) > hostnameBytes {
		return invalid("config.hostname", "%d bytes long; the kernel takes %d", len(name), hostnameBytes)
	}
	if !hostnamePattern.MatchString(name) {
		return invalid("config.hostname", "%q is no host name; letters, digits, '-' and '.' are allowed", name)
	}
	return nil
}

func validateDNS(config *cri.PodSandboxConfig) error {
	dns := config.GetDnsConfig()
	for i, server := range dns.GetServers() {
		if _, err := netip.ParseAddr(server); err != nil {
			return invalid(fmt.Sprintf("config.dns_config.servers[%d]", i), "%q is no IP address", server)
		}
	}
	for field, words := range map[string][]string{"searches": dns.GetSearches(), "options": dns.GetOptions()} {
		for i, word := range words {
			if word == "" || strings.ContainsAny(word, " \t\r\n\x00") {
				return invalid(fmt.Sprintf("config.dns_config.%s[%d]", field, i), "%q must be one word", word)
			}
		}
	}
	return nil
}

func validatePorts(config *cri.PodSandboxConfig) error {
	type hostPort struct {
		ip       netip.Addr
		protocol cri.Protocol
		port     int32
	}
	seen := map[hostPort]int{}
	for i, m := range config.GetPortMappings() {
		field := fmt.Sprintf("config.port_mappings[%d]", i)
		if _, ok := cri.Protocol_name[int32(m.GetProtocol())]; !ok {
			return invalid(field+".protocol", "%d is unknown", m.GetProtocol())
		}
		if m.GetHostPort() < 0 || m.GetHostPort() > 65535 {
			return invalid(field+".host_port", "%d is no port; 0 means none, 1 to 65535 are ports", m.GetHostPort())
		}
		if m.GetContainerPort() < 0 || m.GetContainerPort() > 65535 || m.GetHostPort() > 0 && m.GetContainerPort() == 0 {
			return invalid(field+".container_port", "%d is no port; give 1 to 65535", m.GetContainerPort())
		}
		var ip netip.Addr
		if text := m.GetHostIp(); text != "" {
			var err error
			if ip, err = netip.ParseAddr(text); err != nil {
				return invalid(field+".host_ip", "%q is no IP address", text)
			}
		}
		if m.GetHostPort() == 0 {
			continue
		}
		key := hostPort{ip, m.GetProtocol(), m.GetHostPort()}
		if first, ok := seen[key]; ok {
			return invalid(field+".host_port", "%s port %d is mapped by port_mappings[%d] already", m.GetProtocol(), m.GetHostPort(), first)
		}
		seen[key] = i
	}
	return nil
}

func validateMaps(config *cri.PodSandboxConfig) error {
	for field, m := range map[string]map[string]string{"labels": config.GetLabels(), "annotations": config.GetAnnotations()} {
		total := 0
		for key, value := range m {
			if key == "" {
				return invalid("config."+field, "has an empty key")
			}
			total += len(key) + len(value)
		}
		if total > totalMapBytes {
			return invalid("config."+field, "%d bytes in all; Kubernetes and MasCRI take %d", total, totalMapBytes)
		}
	}
	return nil
}

func validatePaths(config *cri.PodSandboxConfig) error {
	for field, p := range map[string]string{
		"config.log_directory":       config.GetLogDirectory(),
		"config.linux.cgroup_parent": config.GetLinux().GetCgroupParent(),
	} {
		if strings.ContainsRune(p, 0) {
			return invalid(field, "holds a NUL byte")
		}
		for _, part := range strings.Split(p, "/") {
			if part == ".." {
				return invalid(field, "%q leads upwards", p)
			}
		}
	}
	if dir := config.GetLogDirectory(); dir != "" && !path.IsAbs(dir) {
		return invalid("config.log_directory", "%q is not absolute", dir)
	}
	return nil
}

func validateNamespaces(config *cri.PodSandboxConfig) error {
	options := config.GetLinux().GetSecurityContext().GetNamespaceOptions()
	for field, mode := range map[string]cri.NamespaceMode{
		"network": options.GetNetwork(), "pid": options.GetPid(), "ipc": options.GetIpc(),
	} {
		if _, ok := cri.NamespaceMode_name[int32(mode)]; !ok {
			return invalid("config.linux.security_context.namespace_options."+field, "mode %d is unknown", mode)
		}
	}
	return nil
}

func validateProfiles(config *cri.PodSandboxConfig) error {
	security := config.GetLinux().GetSecurityContext()
	for field, profile := range map[string]*cri.SecurityProfile{"seccomp": security.GetSeccomp(), "apparmor": security.GetApparmor()} {
		field = "config.linux.security_context." + field
		if _, ok := cri.SecurityProfile_ProfileType_name[int32(profile.GetProfileType())]; !ok {
			return invalid(field+".profile_type", "%d is unknown", profile.GetProfileType())
		}
		local := profile.GetProfileType() == cri.SecurityProfile_Localhost
		if local != (profile.GetLocalhostRef() != "") {
			return invalid(field+".localhost_ref", "%q does not go with profile type %s; it goes with Localhost, and Localhost needs it", profile.GetLocalhostRef(), profile.GetProfileType())
		}
	}
	if _, ok := cri.SupplementalGroupsPolicy_name[int32(security.GetSupplementalGroupsPolicy())]; !ok {
		return invalid("config.linux.security_context.supplemental_groups_policy", "%d is unknown", security.GetSupplementalGroupsPolicy())
	}
	return nil
}

// validateSysctls allows what has a namespace of the sandbox's own, as runc does:
// anything else would change the node.
func validateSysctls(config *cri.PodSandboxConfig) error {
	for name, value := range config.GetLinux().GetSysctls() {
		field := fmt.Sprintf("config.linux.sysctls[%q]", name)
		if !sysctlPattern.MatchString(name) {
			return invalid(field, "is no sysctl name, such as net.ipv4.ip_forward")
		}
		if strings.ContainsAny(value, "\n\x00") {
			return invalid(field, "the value must be one line")
		}
		if reason := sysctlRefusal(strings.ReplaceAll(name, "/", "."), config); reason != "" {
			return invalid(field, "%s", reason)
		}
	}
	return nil
}

func sysctlRefusal(name string, config *cri.PodSandboxConfig) string {
	hostIPC := config.GetLinux().GetSecurityContext().GetNamespaceOptions().GetIpc() == cri.NamespaceMode_NODE
	ofIPC := strings.HasPrefix(name, "kernel.msg") || strings.HasPrefix(name, "kernel.shm") ||
		name == "kernel.sem" || strings.HasPrefix(name, "fs.mqueue.")
	switch {
	case strings.HasPrefix(name, "net.") && pod.HostNetwork(config):
		return "would change the node: the pod uses the node's network namespace"
	case ofIPC && hostIPC:
		return "would change the node: the pod uses the node's IPC namespace"
	case strings.HasPrefix(name, "net."), ofIPC, name == "kernel.domainname" && !pod.HostNetwork(config):
		return ""
	}
	return "is not namespaced: it would change the node; net.*, kernel.shm*, kernel.msg*, kernel.sem, fs.mqueue.* and kernel.domainname are the pod's own"
}
