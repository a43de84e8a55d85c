package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"google.golang.org/grpc/codes"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// Capabilities as bits of /proc/PID/status.
const (
	capsDefault  = "00000000a80425fb" // Docker's fourteen
	capNetAdmin  = 1 << 12
	capChown     = 1 << 0
	appArmorNone = "the engine has no AppArmor"
)

// confinementFields are those that say what the process may do.
var confinementFields = prefixed("config.linux.security_context.", merge(map[string]containerField{
	"capabilities.add_capabilities": {
		set: capable(&cri.Capability{AddCapabilities: []string{"NET_ADMIN"}}), see: wantProcess("CapEff", fmt.Sprintf("%016x", 0xa80425fb|capNetAdmin)),
	},
	"capabilities.add_capabilities with the prefix": {
		set: capable(&cri.Capability{AddCapabilities: []string{"CAP_NET_ADMIN"}}), see: wantProcess("CapEff", fmt.Sprintf("%016x", 0xa80425fb|capNetAdmin)),
	},
	"capabilities.add_capabilities of none": {
		set: capable(&cri.Capability{AddCapabilities: []string{"FLY"}}), code: codes.InvalidArgument, text: "FLY",
	},
	"capabilities.drop_capabilities": {
		set: capable(&cri.Capability{DropCapabilities: []string{"CHOWN"}}), see: wantProcess("CapEff", fmt.Sprintf("%016x", 0xa80425fb&^capChown)),
	},
	"capabilities.drop_capabilities ALL": {set: capable(&cri.Capability{DropCapabilities: []string{"ALL"}}), see: wantProcess("CapBnd", "0000000000000000")},
	"capabilities.drop_capabilities all but one": {
		set: capable(&cri.Capability{DropCapabilities: []string{"ALL"}, AddCapabilities: []string{"NET_ADMIN"}}), see: wantProcess("CapEff", fmt.Sprintf("%016x", capNetAdmin)),
	},
	"capabilities.drop_capabilities ALL and add ALL": {
		set: capable(&cri.Capability{DropCapabilities: []string{"ALL"}, AddCapabilities: []string{"ALL", "CHOWN"}}), see: wantProcess("CapEff", fmt.Sprintf("%016x", capChown)),
	},
	"capabilities.add_ambient_capabilities": {
		set: capable(&cri.Capability{AddAmbientCapabilities: []string{"NET_ADMIN"}}), code: codes.Unimplemented, text: "add_ambient_capabilities: NET_ADMIN",
	},
	"capabilities.add_capabilities none": {see: wantProcess("CapEff", capsDefault)},
	// In one that is, it is seen by inPodOfTheNode.
	"privileged where sandbox_config is not": {set: secured(func(s *cri.LinuxContainerSecurityContext) { s.Privileged = true }), code: codes.InvalidArgument, text: "security_context.privileged"},
	"readonly_rootfs": {
		script: "busybox touch /new 2>/dev/null || echo ro", set: secured(func(s *cri.LinuxContainerSecurityContext) { s.ReadonlyRootfs = true }), see: wantOutput("ro\n"),
	},
	"no_new_privs":             {set: secured(func(s *cri.LinuxContainerSecurityContext) { s.NoNewPrivs = true }), see: wantProcess("NoNewPrivs", "1")},
	"no_new_privs not given":   {see: wantProcess("NoNewPrivs", "0")},
	"masked_paths":             {script: "cat /proc/cmdline /proc/uptime; echo end", set: secured(func(s *cri.LinuxContainerSecurityContext) { s.MaskedPaths = []string{"/proc/cmdline", "/proc/uptime"} }), see: wantOutput("end\n")},
	"masked_paths not given":   {see: wantNotMounted("/proc/kcore", "/proc/keys", "/sys/firmware")},
	"readonly_paths":           {set: secured(func(s *cri.LinuxContainerSecurityContext) { s.ReadonlyPaths = []string{"/proc/irq"} }), see: wantMounted("/proc/irq", "ro,")},
	"readonly_paths not given": {see: wantNotMounted("/proc/sys", "/proc/bus", "/proc/irq")},
	"selinux_options.user":     {set: labelled(&cri.SELinuxOption{User: "u"}), code: codes.FailedPrecondition, text: selinuxRefused},
	"selinux_options.role":     {set: labelled(&cri.SELinuxOption{Role: "r"}), code: codes.FailedPrecondition, text: selinuxRefused},
	"selinux_options.type":     {set: labelled(&cri.SELinuxOption{Type: "t"}), code: codes.FailedPrecondition, text: selinuxRefused},
	"selinux_options.level":    {set: labelled(&cri.SELinuxOption{Level: "s0"}), code: codes.FailedPrecondition, text: selinuxRefused},
}, profileRows, namespaceRows))

var profileRows = map[string]containerField{
	"seccomp.profile_type":            {set: seccomp(cri.SecurityProfile_RuntimeDefault, ""), see: wantProcess("Seccomp", "2")},
	"seccomp.profile_type unconfined": {set: seccomp(cri.SecurityProfile_Unconfined, ""), see: wantProcess("Seccomp", "0")},
	"seccomp.profile_type not given":  {see: wantProcess("Seccomp", "0")},
	"seccomp.profile_type of none":    {set: seccomp(9, ""), code: codes.InvalidArgument, text: "seccomp.profile_type"},
	"seccomp.localhost_ref": {
		script: noSocketScript, set: func(t *testing.T, req *cri.CreateContainerRequest) {
			seccomp(cri.SecurityProfile_Localhost, writeProfile(t))(t, req)
		}, see: wantOutput("no socket\n"),
	},
	"seccomp.localhost_ref of no file":   {set: seccomp(cri.SecurityProfile_Localhost, "/none.json"), code: codes.InvalidArgument, text: "/none.json: no such file"},
	"seccomp.localhost_ref not absolute": {set: seccomp(cri.SecurityProfile_Localhost, "none.json"), code: codes.InvalidArgument, text: `"none.json", is not absolute`},
	"seccomp.localhost_ref not given":    {set: seccomp(cri.SecurityProfile_Localhost, ""), code: codes.InvalidArgument, text: "seccomp.localhost_ref: missing"},
	"seccomp.localhost_ref unasked":      {set: seccomp(cri.SecurityProfile_RuntimeDefault, "/x"), code: codes.InvalidArgument, text: "seccomp.localhost_ref"},
	"seccomp.localhost_ref of no JSON": {set: func(t *testing.T, req *cri.CreateContainerRequest) {
		path := filepath.Join(t.TempDir(), "bad.json")
		if err := os.WriteFile(path, []byte("{"), 0o600); err != nil {
			t.Fatal(err)
		}
		seccomp(cri.SecurityProfile_Localhost, path)(t, req)
	}, code: codes.InvalidArgument, text: "bad.json: unexpected end of JSON"},
	"seccomp_profile_path": {script: noSocketScript, set: func(t *testing.T, req *cri.CreateContainerRequest) {
		req.Config.Linux.SecurityContext.SeccompProfilePath = "localhost/" + writeProfile(t) //nolint:staticcheck // deprecated, but clients still send it
	}, see: wantOutput("no socket\n")},
	"seccomp_profile_path of the engine": {set: secured(func(s *cri.LinuxContainerSecurityContext) {
		s.SeccompProfilePath = "runtime/default" //nolint:staticcheck // deprecated, but clients still send it
	}), see: wantProcess("Seccomp", "2")},
	"apparmor.profile_type":       {set: apparmor(cri.SecurityProfile_Unconfined, ""), see: wantOption("apparmor=unconfined", true)},
	"apparmor.profile_type own":   {set: apparmor(cri.SecurityProfile_RuntimeDefault, ""), see: wantOption("apparmor", false)},
	"apparmor.localhost_ref":      {set: apparmor(cri.SecurityProfile_Localhost, "mine"), code: codes.FailedPrecondition, text: appArmorNone},
	"apparmor_profile":            {set: oldAppArmor("unconfined"), see: wantOption("apparmor=unconfined", true)},
	"apparmor_profile of a name":  {set: oldAppArmor("localhost/mine"), code: codes.FailedPrecondition, text: appArmorNone},
	"apparmor_profile of nothing": {set: oldAppArmor("mine"), code: codes.InvalidArgument, text: "apparmor_profile"},
}

const noSocketScript = "busybox nc -w 1 127.0.0.1 9 2>&1 | busybox grep -q 'Operation not permitted' && echo no socket"

func capable(c *cri.Capability) func(*testing.T, *cri.CreateContainerRequest) {
	return secured(func(s *cri.LinuxContainerSecurityContext) { s.Capabilities = c })
}

func labelled(o *cri.SELinuxOption) func(*testing.T, *cri.CreateContainerRequest) {
	return secured(func(s *cri.LinuxContainerSecurityContext) { s.SelinuxOptions = o })
}

func seccomp(kind cri.SecurityProfile_ProfileType, ref string) func(*testing.T, *cri.CreateContainerRequest) {
	return secured(func(s *cri.LinuxContainerSecurityContext) {
		s.Seccomp = &cri.SecurityProfile{ProfileType: kind, LocalhostRef: ref}
	})
}

func apparmor(kind cri.SecurityProfile_ProfileType, ref string) func(*testing.T, *cri.CreateContainerRequest) {
	return secured(func(s *cri.LinuxContainerSecurityContext) {
		s.Apparmor = &cri.SecurityProfile{ProfileType: kind, LocalhostRef: ref}
	})
}

func oldAppArmor(name string) func(*testing.T, *cri.CreateContainerRequest) {
	return secured(func(s *cri.LinuxContainerSecurityContext) {
		s.ApparmorProfile = name //nolint:staticcheck // deprecated, but clients still send it
	})
}

// wantOption checks Docker's security options, all there is to see without AppArmor.
func wantOption(text string, want bool) func(*testing.T, *bench, container) {
	return func(t *testing.T, b *bench, c container) {
		t.Helper()
		if got := b.docker(t, "inspect", "-f", "{{.HostConfig.SecurityOpt}}", c.id); strings.Contains(got, text) != want {
			t.Errorf("security options %s, with %s: want %v", got, text, want)
		}
	}
}

func wantMounted(path, options string) func(*testing.T, *bench, container) {
	return func(t *testing.T, _ *bench, c container) {
		t.Helper()
		if got := c.mounted(t, path); !strings.HasPrefix(got, options) {
			t.Errorf("%s is mounted %q, want %s", path, got, options)
		}
	}
}

func wantNotMounted(paths ...string) func(*testing.T, *bench, container) {
	return func(t *testing.T, _ *bench, c container) {
		t.Helper()
		for _, path := range paths {
			if got := c.mounted(t, path); got != "" {
				t.Errorf("%s is mounted %q", path, got)
			}
		}
	}
}
