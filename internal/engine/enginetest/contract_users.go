package enginetest

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/containerd/errdefs"
	"github.com/google/go-cmp/cmp"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/mascri/mascri/internal/pod"
)

type securityContext = cri.LinuxContainerSecurityContext

func number(value int64) *cri.Int64Value { return &cri.Int64Value{Value: value} }

// usersResolved goes by what Passwd and Group say of app.
func usersResolved(t *testing.T, s Subject) {
	sandbox := s.inspect(t, s.run(t, "users"))
	plain, ofApp := s.image(t, s.Image), s.image(t, s.UserImage)
	const strict = cri.SupplementalGroupsPolicy_Strict
	for i, tt := range []struct {
		name  string
		image pod.Image
		asked *securityContext
		want  pod.User
	}{
		{"nobody says", plain, &securityContext{}, pod.User{Groups: []int64{0}}},
		{"uid", plain, &securityContext{RunAsUser: number(1234)}, pod.User{UID: 1234, GID: 1234, Groups: []int64{10, 50, 1234}}},
		{"uid that nobody has", plain, &securityContext{RunAsUser: number(77)}, pod.User{UID: 77, Groups: []int64{0}}},
		{"name", plain, &securityContext{RunAsUsername: "app"}, pod.User{UID: 1234, GID: 1234, Groups: []int64{10, 50, 1234}}},
		{"name and gid", plain, &securityContext{RunAsUsername: "app", RunAsGroup: number(2000)}, pod.User{UID: 1234, GID: 2000, Groups: []int64{10, 50, 2000}}},
		{"uid, gid and groups", plain, &securityContext{RunAsUser: number(1234), RunAsGroup: number(2000), SupplementalGroups: []int64{3000, 50}},
			pod.User{UID: 1234, GID: 2000, Groups: []int64{10, 50, 2000, 3000}}},
		{"strict uid", plain, &securityContext{RunAsUser: number(1234), SupplementalGroupsPolicy: strict}, pod.User{UID: 1234, GID: 1234, Groups: []int64{1234}}},
		{"strict name and groups", plain, &securityContext{RunAsUsername: "app", SupplementalGroups: []int64{3000}, SupplementalGroupsPolicy: strict},
			pod.User{UID: 1234, GID: 1234, Groups: []int64{1234, 3000}}},
		{"the image says", ofApp, &securityContext{}, pod.User{UID: 1234, GID: 50, Groups: []int64{10, 50}}},
		{"the image says, strict", ofApp, &securityContext{SupplementalGroupsPolicy: strict}, pod.User{UID: 1234, GID: 50, Groups: []int64{50}}},
		{"the request overrules the image", ofApp, &securityContext{RunAsUser: number(0)}, pod.User{Groups: []int64{0}}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			spec := s.workload(sandbox, tt.image, fmt.Sprint("u", i))
			spec.Config.Linux.SecurityContext = tt.asked
			got := s.container(t, s.runContainer(t, spec))
			if diff := cmp.Diff(tt.want, got.User); diff != "" {
				t.Errorf("user (-want +got):\n%s", diff)
			}
			if s.Processes {
				if diff := cmp.Diff(tt.want, userOf(t, got.PID)); diff != "" {
					t.Errorf("user of the process (-want +got):\n%s", diff)
				}
			}
		})
	}
}

// userOf reads /proc/pid/status.
func userOf(t *testing.T, pid int) (u pod.User) {
	t.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		name, rest, _ := strings.Cut(line, ":")
		var ids []int64
		for _, word := range strings.Fields(rest) {
			var id int64
			if _, err := fmt.Sscan(word, &id); err == nil {
				ids = append(ids, id)
			}
		}
		switch name {
		case "Uid":
			u.UID = ids[1]
		case "Gid":
			u.GID = ids[1]
		case "Groups":
			u.Groups = ids
		}
	}
	return u
}

func usersRefused(t *testing.T, s Subject) {
	sandbox := s.inspect(t, s.run(t, "users"))
	for says, asked := range map[string]*securityContext{
		"run_as_username: \"nobody-here\"": {RunAsUsername: "nobody-here"},
		"run_as_username: \"a:b\"":         {RunAsUsername: "a:b"},
		"run_as_user: -1":                  {RunAsUser: number(-1)},
		"run_as_group: needs":              {RunAsGroup: number(1)},
		"given with run_as_user":           {RunAsUser: number(1), RunAsUsername: "app"},
	} {
		spec := s.workload(sandbox, s.image(t, s.Image), "a")
		spec.Config.Linux.SecurityContext = asked
		if _, err := s.Engine.CreateContainer(t.Context(), spec); !errors.Is(err, errdefs.ErrInvalidArgument) || !strings.Contains(err.Error(), says) {
			t.Errorf("%v: %v, want InvalidArgument that says %q", asked, err, says)
		}
	}
	if ids, err := s.Engine.IDs(t.Context()); err != nil || len(ids) != 1 {
		t.Errorf("left: %v, %v; want the sandbox alone", ids, err)
	}
}
