package e2e

import (
	"os"
	"testing"

	"google.golang.org/grpc/codes"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// namespaceRows are those of namespace_options in a pod with namespaces of its own.
var namespaceRows = prefixed("namespace_options.", merge(map[string]containerField{
	"network of the node": {set: spaced(func(o *cri.NamespaceOption) { o.Network = cri.NamespaceMode_NODE }), code: codes.InvalidArgument, text: "namespace_options.network"},
	"network":             {see: wantSpaces(map[string]space{"net": ofPod})},
	"ipc of the node":     {set: spaced(func(o *cri.NamespaceOption) { o.Ipc = cri.NamespaceMode_NODE }), code: codes.InvalidArgument, text: "namespace_options.ipc"},
	"ipc":                 {see: wantSpaces(map[string]space{"ipc": ofPod})},
	"pid":                 {set: spaced(func(o *cri.NamespaceOption) { o.Pid = cri.NamespaceMode_POD }), see: wantSpaces(map[string]space{"pid": ofPod})},
	"pid its own":         {see: wantSpaces(map[string]space{"pid": own})},
	"pid the node":        {set: spaced(func(o *cri.NamespaceOption) { o.Pid = cri.NamespaceMode_NODE }), see: wantSpaces(map[string]space{"pid": ofNode})},
	"target_id of none":   {set: spaced(func(o *cri.NamespaceOption) { o.Pid, o.TargetId = cri.NamespaceMode_TARGET, "nonesuch" }), code: codes.InvalidArgument, text: "target_id"},
	"target_id not given": {set: spaced(func(o *cri.NamespaceOption) { o.Pid = cri.NamespaceMode_TARGET }), code: codes.InvalidArgument, text: "target_id"},
	"target_id unasked":   {set: spaced(func(o *cri.NamespaceOption) { o.TargetId = "x" }), code: codes.InvalidArgument, text: "target_id"},
	"target_id": {see: func(t *testing.T, b *bench, c container) {
		req := b.request("targeting", "")
		spaced(func(o *cri.NamespaceOption) { o.Pid, o.TargetId = cri.NamespaceMode_TARGET, c.id[:12] })(t, req)
		targeting := b.runContainer(t, req)
		defer b.removeContainer(t, targeting.id)
		wantSameNamespace(t, "pid", targeting.pid(t), c.pid(t), true)
	}},
	"userns_options.mode": {set: spaced(func(o *cri.NamespaceOption) {
		o.UsernsOptions = &cri.UserNamespace{Mode: cri.NamespaceMode_NODE}
	}), see: wantSpaces(map[string]space{"user": ofNode})},
	"userns_options.mode the pod": {set: spaced(func(o *cri.NamespaceOption) { o.UsernsOptions = &cri.UserNamespace{} }), code: codes.Unimplemented, text: "userns_options"},
}, usernsRows("uids", func(u *cri.UserNamespace, m []*cri.IDMapping) { u.Uids = m }), usernsRows("gids", func(u *cri.UserNamespace, m []*cri.IDMapping) { u.Gids = m })))

func usernsRows(name string, set func(*cri.UserNamespace, []*cri.IDMapping)) map[string]containerField {
	rows := map[string]containerField{}
	for key, ids := range map[string]*cri.IDMapping{"host_id": {HostId: 1, Length: 1}, "container_id": {ContainerId: 1, Length: 1}, "length": {Length: 1}} {
		rows["userns_options."+name+"."+key] = containerField{set: spaced(func(o *cri.NamespaceOption) {
			o.UsernsOptions = &cri.UserNamespace{Mode: cri.NamespaceMode_NODE}
			set(o.UsernsOptions, []*cri.IDMapping{ids})
		}), code: codes.InvalidArgument, text: "userns_options"}
	}
	return rows
}

func spaced(change func(*cri.NamespaceOption)) func(*testing.T, *cri.CreateContainerRequest) {
	return secured(func(s *cri.LinuxContainerSecurityContext) { change(s.NamespaceOptions) })
}

// space tells whose a namespace is.
type space int

const (
	own space = iota
	ofPod
	ofNode
)

func wantSpaces(want map[string]space) func(*testing.T, *bench, container) {
	return func(t *testing.T, b *bench, c container) {
		t.Helper()
		for kind, space := range want {
			wantSameNamespace(t, kind, c.pid(t), b.pod.pid(t), space == ofPod || kind == "user")
			wantSameNamespace(t, kind, c.pid(t), os.Getpid(), space == ofNode)
		}
	}
}
