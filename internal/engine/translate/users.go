package translate

import (
	"math"
	"strconv"

	"github.com/moby/moby/api/types/container"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/mascri/mascri/internal/pod"
)

const securityContext = "linux.security_context."

// users sets whose process holds the namespaces.
func users(spec pod.SandboxSpec, _ Host, config *container.Config, out *container.HostConfig) error {
	security := spec.Config.GetLinux().GetSecurityContext()
	user, err := userAndGroup(security)
	if err != nil {
		return err
	}
	config.User = user
	for _, group := range security.GetSupplementalGroups() {
		id, err := numericID("supplemental_groups", group)
		if err != nil {
			return err
		}
		out.GroupAdd = append(out.GroupAdd, id)
	}
	return nil
}

// userAndGroup returns "", "uid" or "uid:gid". The engine adds the groups that the
// image's /etc/group gives a user (policy Merge) unless it gets both; so Strict always
// names a group. "" is the image's own user; the embedded image has no /etc/group.
func userAndGroup(security *cri.LinuxSandboxSecurityContext) (string, error) {
	policy := security.GetSupplementalGroupsPolicy()
	if _, known := cri.SupplementalGroupsPolicy_name[int32(policy)]; !known {
		return "", invalid(securityContext+"supplemental_groups_policy: unknown value %d", policy)
	}
	if security.GetRunAsUser() == nil {
		if security.GetRunAsGroup() != nil {
			return "", invalid(securityContext + "run_as_group: needs run_as_user")
		}
		return "", nil
	}
	user, err := numericID("run_as_user", security.GetRunAsUser().GetValue())
	if err != nil {
		return "", err
	}
	if security.GetRunAsGroup() == nil && policy == cri.SupplementalGroupsPolicy_Merge {
		return user, nil
	}
	group, err := numericID("run_as_group", security.GetRunAsGroup().GetValue())
	if err != nil {
		return "", err
	}
	return user + ":" + group, nil
}

// numericID checks against the engine's range, which is narrower than the kernel's.
func numericID(field string, id int64) (string, error) {
	if id < 0 || id > math.MaxInt32 {
		return "", invalid(securityContext+"%s: %d is not between 0 and %d", field, id, math.MaxInt32)
	}
	return strconv.FormatInt(id, 10), nil
}
