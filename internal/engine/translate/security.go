package translate

import (
	"bytes"
	_ "embed" // of the sandbox's profile
	"encoding/json"
	"path/filepath"
	"slices"
	"strings"

	"github.com/moby/moby/api/types/container"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/mascri/mascri/internal/pod"
)

const unconfined = "unconfined"

// confinement is what the CRI's security contexts of a sandbox and of a container have
// alike.
type confinement interface {
	GetPrivileged() bool
	GetSeccomp() *cri.SecurityProfile
	GetSeccompProfilePath() string
	GetSelinuxOptions() *cri.SELinuxOption
}

// security confines the process that holds the namespaces.
//
// Privileged never becomes Docker's: holding namespaces needs no privilege, and which
// containers may be privileged is settled when they are made.
// It only lifts the profiles here, as they may name what a privileged pod relies on.
func security(spec pod.SandboxSpec, host Host, _ *container.Config, out *container.HostConfig) error {
	security := spec.Config.GetLinux().GetSecurityContext()
	out.ReadonlyRootfs = security.GetReadonlyRootfs()
	var err error
	if out.SecurityOpt, err = securityOptions(security, security.GetApparmor(), host); err != nil {
		return err
	}
	if !slices.ContainsFunc(out.SecurityOpt, func(option string) bool { return strings.HasPrefix(option, "seccomp=") }) {
		out.SecurityOpt = append(out.SecurityOpt, "seccomp="+sandboxProfile())
	}
	return nil
}

// sandboxSeccomp stands for the engine's default profile in a sandbox. It refuses what
// that refuses to a process without capabilities, but names it, which is a sixth of what
// the default names: a third of the time that a sandbox takes to start goes into the
// making of the default's filter. It has the node's own architecture alone; the calls of
// others end the process. On clone it refuses a user namespace (CLONE_NEWUSER); all other
// namespaces need a capability that a sandbox has not.
//
//go:embed sandbox_seccomp.json
var sandboxSeccomp []byte

// sandboxProfile is sandboxSeccomp in the form that Docker's API takes.
func sandboxProfile() string {
	var compact bytes.Buffer
	if err := json.Compact(&compact, sandboxSeccomp); err != nil {
		panic(err) // it is ours
	}
	return compact.String()
}

// securityOptions returns Docker's options for the profiles and labels of security.
func securityOptions(security confinement, apparmor *cri.SecurityProfile, host Host) (options []string, err error) {
	seccomp, err := seccompOption(security, host)
	if err != nil {
		return nil, err
	}
	armor, err := appArmorOption(security.GetPrivileged(), apparmor, host.Facts)
	if err != nil {
		return nil, err
	}
	selinux, err := selinuxOptions(security.GetSelinuxOptions(), host.Facts)
	if err != nil {
		return nil, err
	}
	for _, option := range append([]string{seccomp, armor}, selinux...) {
		if option != "" {
			options = append(options, option)
		}
	}
	return options, nil
}

// seccompOption returns "" for the engine's default profile.
func seccompOption(security confinement, host Host) (string, error) {
	profile, field, err := seccompProfile(security)
	if err != nil {
		return "", err
	}
	if security.GetPrivileged() || profile.GetProfileType() == cri.SecurityProfile_Unconfined {
		return "seccomp=" + unconfined, nil
	}
	if !host.Facts.Seccomp {
		return "", unmet("%s: the engine has no seccomp: use a kernel with CONFIG_SECCOMP_FILTER, or the profile Unconfined", field)
	}
	if profile.GetProfileType() == cri.SecurityProfile_RuntimeDefault {
		return "", nil
	}
	file := profile.GetLocalhostRef()
	if !filepath.IsAbs(file) {
		return "", invalid("%s: the path of the profile, %q, is not absolute", field, file)
	}
	text, err := host.ReadFile(file)
	if err != nil {
		return "", invalid("%s: %v", field, err)
	}
	var compact bytes.Buffer
	if err := json.Compact(&compact, text); err != nil {
		return "", invalid("%s: %s: %v", field, file, err)
	}
	if !bytes.HasPrefix(compact.Bytes(), []byte("{")) {
		return "", invalid("%s: %s: a profile is a JSON object", field, file)
	}
	return "seccomp=" + compact.String(), nil
}

// seccompProfile reads the field in use: seccomp, or else the deprecated
// seccomp_profile_path. Neither means unconfined.
func seccompProfile(security confinement) (profile *cri.SecurityProfile, field string, err error) {
	field = securityContext + "seccomp"
	if profile := security.GetSeccomp(); profile != nil {
		return profile, field, checkProfile(profile, field)
	}
	field = securityContext + "seccomp_profile_path"
	name := security.GetSeccompProfilePath() // deprecated, but clients still send it
	switch file, local := strings.CutPrefix(name, "localhost/"); {
	case local:
		return &cri.SecurityProfile{ProfileType: cri.SecurityProfile_Localhost, LocalhostRef: file}, field, nil
	case name == "" || name == unconfined:
		return &cri.SecurityProfile{ProfileType: cri.SecurityProfile_Unconfined}, field, nil
	case name == "runtime/default" || name == "docker/default":
		return &cri.SecurityProfile{ProfileType: cri.SecurityProfile_RuntimeDefault}, field, nil
	}
	return nil, field, invalid("%s: %q is none of runtime/default, unconfined, localhost/<absolute path>", field, name)
}

// appArmorOption returns "" for the engine's default profile, which is none where
// the node has no AppArmor.
func appArmorOption(privileged bool, profile *cri.SecurityProfile, facts pod.EngineFacts) (string, error) {
	const field = securityContext + "apparmor"
	if err := checkProfile(profile, field); err != nil {
		return "", err
	}
	switch {
	case privileged || profile.GetProfileType() == cri.SecurityProfile_Unconfined:
		return "apparmor=" + unconfined, nil
	case profile.GetProfileType() == cri.SecurityProfile_RuntimeDefault:
		return "", nil
	case !facts.AppArmor:
		return "", unmet("%s: the engine has no AppArmor, so profile %q can't be applied: enable AppArmor on the node, or use RuntimeDefault", field, profile.GetLocalhostRef())
	}
	return "apparmor=" + strings.TrimPrefix(profile.GetLocalhostRef(), "localhost/"), nil
}

// checkProfile holds a profile to the CRI: localhost_ref belongs to Localhost alone.
func checkProfile(profile *cri.SecurityProfile, field string) error {
	if _, known := cri.SecurityProfile_ProfileType_name[int32(profile.GetProfileType())]; !known {
		return invalid("%s.profile_type: unknown value %d", field, profile.GetProfileType())
	}
	local := profile.GetProfileType() == cri.SecurityProfile_Localhost
	switch {
	case local && profile.GetLocalhostRef() == "":
		return invalid("%s.localhost_ref: missing with profile_type Localhost", field)
	case !local && profile.GetLocalhostRef() != "":
		return invalid("%s.localhost_ref: %q given with profile_type %s", field, profile.GetLocalhostRef(), profile.GetProfileType())
	}
	return nil
}

// selinuxOptions returns Docker's label options for the parts that are set.
func selinuxOptions(options *cri.SELinuxOption, facts pod.EngineFacts) ([]string, error) {
	var labels []string
	for _, part := range []struct{ name, value string }{
		{"user", options.GetUser()}, {"role", options.GetRole()}, {"type", options.GetType()}, {"level", options.GetLevel()},
	} {
		if part.value != "" {
			labels = append(labels, "label="+part.name+":"+part.value)
		}
	}
	if len(labels) > 0 && !facts.SELinux {
		return nil, unmet(securityContext + "selinux_options: the engine does not use SELinux: start dockerd with --selinux-enabled on a node that enforces it, or leave the options out")
	}
	return labels, nil
}
