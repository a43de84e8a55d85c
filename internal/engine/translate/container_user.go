package translate

import (
	"bytes"
	"slices"
	"strconv"
	"strings"

	"github.com/moby/sys/user"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/mascri/mascri/internal/pod"
)

// Accounts are the users and groups that an image knows.
type Accounts struct {
	Passwd []byte // /etc/passwd; empty where there is none
	Group  []byte // /etc/group
}

// User resolves whom a container's process runs as: the request's user, or else the
// image's, given as imageUser. Every part of it is settled here and then passed to the
// engine in numbers, since what the engine adds by itself depends on how it is asked.
func User(security *cri.LinuxContainerSecurityContext, imageUser string, accounts Accounts) (pod.User, error) {
	asked, field, err := askedUser(security)
	if err != nil {
		return pod.User{}, err
	}
	if field == "" {
		asked, field = imageUser, "the image's user"
	}
	lookup := func(spec string) (*user.ExecUser, error) {
		found, err := user.GetExecUser(spec, &user.ExecUser{}, bytes.NewReader(accounts.Passwd), bytes.NewReader(accounts.Group))
		if err != nil {
			return nil, invalid("%s: %q: %v", field, spec, err)
		}
		return found, nil
	}
	found, err := lookup(asked)
	if err != nil {
		return pod.User{}, err
	}
	u := pod.User{UID: int64(found.Uid), GID: int64(found.Gid)}
	if group := security.GetRunAsGroup(); group != nil {
		u.GID = group.GetValue()
	}
	u.Groups = append([]int64{u.GID}, security.GetSupplementalGroups()...)
	if security.GetSupplementalGroupsPolicy() == cri.SupplementalGroupsPolicy_Merge {
		// Without the group, as with one only that is looked up.
		name, _, _ := strings.Cut(asked, ":")
		member, err := lookup(name)
		if err != nil {
			return pod.User{}, err
		}
		for _, group := range member.Sgids {
			u.Groups = append(u.Groups, int64(group))
		}
	}
	slices.Sort(u.Groups)
	u.Groups = slices.Compact(u.Groups)
	return u, nil
}

// askedUser returns the request's user, and the field that names it, "" for none.
func askedUser(security *cri.LinuxContainerSecurityContext) (asked, field string, err error) {
	policy := security.GetSupplementalGroupsPolicy()
	if _, known := cri.SupplementalGroupsPolicy_name[int32(policy)]; !known {
		return "", "", invalid(securityContext+"supplemental_groups_policy: unknown value %d", policy)
	}
	for name, ids := range map[string][]int64{
		"run_as_user": {security.GetRunAsUser().GetValue()}, "run_as_group": {security.GetRunAsGroup().GetValue()}, "supplemental_groups": security.GetSupplementalGroups(),
	} {
		for _, id := range ids {
			if _, err := numericID(name, id); err != nil {
				return "", "", err
			}
		}
	}
	name := security.GetRunAsUsername()
	switch {
	case security.GetRunAsUser() != nil && name != "":
		return "", "", invalid(securityContext+"run_as_username: %q given with run_as_user", name)
	case security.GetRunAsUser() != nil:
		return strconv.FormatInt(security.GetRunAsUser().GetValue(), 10), securityContext + "run_as_user", nil
	case strings.Contains(name, ":"):
		return "", "", invalid(securityContext+"run_as_username: %q is no name", name)
	case name != "":
		return name, securityContext + "run_as_username", nil
	case security.GetRunAsGroup() != nil:
		return "", "", invalid(securityContext + "run_as_group: needs run_as_user or run_as_username")
	}
	return "", "", nil
}
