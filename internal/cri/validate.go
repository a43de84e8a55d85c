package cri

import (
	"fmt"
	"net/netip"
	"path"
	"regexp"
	"strings"

	cri "k8s.io/cri-api/pkg/apis/runtime/v1"
)

const (
	// Kubernetes' own limit for all annotations of an object (apimachinery,
	// TotalAnnotationSizeLimitB); labels get the same.
	totalMapBytes = 256 << 10
	// Kubernetes' own limit for names of objects (apimachinery, DNS1123SubdomainMaxLength).
	// Plugins get them in their environment, where the kernel's limit is 128 KiB.
	metadataBytes = 253
	// sethostname(2): HOST_NAME_MAX.
	hostnameBytes = 64
)

var hostnamePattern = regexp.MustCompile(`^[A-Za-z0-9]([A-Za-z0-9_.-]*[A-Za-z0-9])?$`)

// validateSandbox refuses what no engine and no network could honour, with the name
// of the field. What depends on the engine is left to the engine's translation.
func validateSandbox(config *cri.PodSandboxConfig) error {
	if config == nil {
		return invalid("config", "missing; give a PodSandboxConfig")
	}
	for _, check := range []func(*cri.PodSandboxConfig) error{
		validateMetadata, validateHostname, validateDNS, validatePorts, validateMaps, validatePaths,
	} {
		if err := check(config); err != nil {
			return err
		}
	}
	return nil
}

func validateMetadata(config *cri.PodSandboxConfig) error {
	m := config.GetMetadata()
	if m.GetName() == "" {
		return invalid("config.metadata.name", "missing; a sandbox is known by its metadata")
	}
	for field, text := range map[string]string{"name": m.GetName(), "namespace": m.GetNamespace(), "uid": m.GetUid()} {
		if len(text) > metadataBytes {
			return invalid("config.metadata."+field, "%d bytes long; Kubernetes and MasCRI take %d", len(text), metadataBytes)
		}
		// CNI_ARGS are joined by these, and nothing escapes them.
		if strings.ContainsAny(text, ";=\x00") {
			return invalid("config.metadata."+field, "%q has one of ; = NUL, which CNI plugins can't be told", text)
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
			if ip, err = netip.ParseAddr(text); err != nil || ip.Zone() != "" {
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
	return validateTexts(map[string]map[string]string{"labels": config.GetLabels(), "annotations": config.GetAnnotations()})
}

// validateTexts bounds maps, which are given by the name of their field.
func validateTexts(fields map[string]map[string]string) error {
	for field, m := range fields {
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
