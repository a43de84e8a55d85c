package e2e

import (
	"fmt"
	"strings"
	"testing"

	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/proto"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// userFields say whom the process runs as. alice (1000) of the image is in users (100),
// and in staff (50) and wheel (10) by /etc/group.
var userFields = prefixed("config.linux.security_context.", map[string]containerField{
	"run_as_user.value": {set: secured(func(s *cri.LinuxContainerSecurityContext) { s.RunAsUser = &cri.Int64Value{Value: 1000} }), see: wantUser(1000, 100, 10, 50, 100)},
	"run_as_user.value that the image does not know": {
		set: secured(func(s *cri.LinuxContainerSecurityContext) { s.RunAsUser = &cri.Int64Value{Value: 4321} }), see: wantUser(4321, 0, 0),
	},
	"run_as_user.value out of range": {
		set: secured(func(s *cri.LinuxContainerSecurityContext) { s.RunAsUser = &cri.Int64Value{Value: -1} }), code: codes.InvalidArgument, text: "run_as_user",
	},
	"run_as_username": {set: secured(func(s *cri.LinuxContainerSecurityContext) { s.RunAsUsername = "alice" }), see: wantUser(1000, 100, 10, 50, 100)},
	"run_as_username that the image does not know": {
		set: secured(func(s *cri.LinuxContainerSecurityContext) { s.RunAsUsername = "bob" }), code: codes.InvalidArgument, text: "run_as_username",
	},
	"run_as_username with run_as_user": {
		set: secured(func(s *cri.LinuxContainerSecurityContext) { s.RunAsUser, s.RunAsUsername = &cri.Int64Value{}, "alice" }), code: codes.InvalidArgument, text: "run_as_username",
	},
	"run_as_username not given": {see: wantUser(0, 0, 0, 10)}, // root is in wheel
	"run_as_group.value": {
		set: secured(func(s *cri.LinuxContainerSecurityContext) {
			s.RunAsUser, s.RunAsGroup = &cri.Int64Value{Value: 1000}, &cri.Int64Value{Value: 77}
		}), see: wantUser(1000, 77, 10, 50, 77),
	},
	"run_as_group.value without a user": {
		set: secured(func(s *cri.LinuxContainerSecurityContext) { s.RunAsGroup = &cri.Int64Value{Value: 77} }), code: codes.InvalidArgument, text: "run_as_group",
	},
	"supplemental_groups": {
		set: secured(func(s *cri.LinuxContainerSecurityContext) {
			s.RunAsUsername, s.SupplementalGroups = "alice", []int64{5000, 50}
		}), see: wantUser(1000, 100, 10, 50, 100, 5000),
	},
	"supplemental_groups out of range": {
		set: secured(func(s *cri.LinuxContainerSecurityContext) { s.SupplementalGroups = []int64{1 << 40} }), code: codes.InvalidArgument, text: "supplemental_groups",
	},
	"supplemental_groups_policy": {
		set: secured(func(s *cri.LinuxContainerSecurityContext) {
			s.RunAsUsername, s.SupplementalGroups, s.SupplementalGroupsPolicy = "alice", []int64{5000}, cri.SupplementalGroupsPolicy_Strict
		}), see: wantUser(1000, 100, 100, 5000),
	},
	"supplemental_groups_policy of none": {
		set: secured(func(s *cri.LinuxContainerSecurityContext) { s.SupplementalGroupsPolicy = 7 }), code: codes.InvalidArgument, text: "supplemental_groups_policy",
	},
})

// wantUser checks the process's ids, and that the status says the same.
func wantUser(uid, gid int64, groups ...int64) func(*testing.T, *bench, container) {
	return func(t *testing.T, _ *bench, c container) {
		t.Helper()
		for key, id := range map[string]int64{"Uid": uid, "Gid": gid} {
			if got, want := c.procStatus(t, key), strings.TrimSpace(strings.Repeat(fmt.Sprint(id, " "), 4)); got != want {
				t.Errorf("%s is %q, want %q", key, got, want)
			}
		}
		if got, want := c.procStatus(t, "Groups"), strings.Trim(fmt.Sprint(groups), "[]"); got != want {
			t.Errorf("groups %q, want %q", got, want)
		}
		want := &cri.LinuxContainerUser{Uid: uid, Gid: gid, SupplementalGroups: groups}
		if got := c.status.GetUser().GetLinux(); !proto.Equal(got, want) {
			t.Errorf("the status says %v, want %v", got, want)
		}
	}
}
