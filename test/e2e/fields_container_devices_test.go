package e2e

import (
	"fmt"
	"os"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
	"google.golang.org/grpc/codes"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"
)

const oldCDI = "CDI_devices: test.mascri/thing=one: the engine (20.10"

var deviceFields = prefixed("config.", map[string]containerField{
	"devices.host_path":                   {set: device("/dev/loop-control", "/dev/loop-control", ""), see: wantDevice("/dev/loop-control", "rwm")},
	"devices.host_path of none":           {set: device("/dev/nonesuch", "/dev/mine", ""), code: codes.Internal, text: "/dev/nonesuch", start: true},
	"devices.host_path not absolute":      {set: device("null", "/dev/mine", ""), code: codes.InvalidArgument, text: "devices[0].host_path"},
	"devices.container_path":              {set: device("/dev/loop-control", "/dev/mine", "rw"), see: wantDevice("/dev/mine", "rw")},
	"devices.container_path not absolute": {set: device("/dev/null", "mine", ""), code: codes.InvalidArgument, text: "devices[0].container_path"},
	"devices.permissions":                 {set: device("/dev/loop-control", "/dev/mine", "r"), see: wantDevice("/dev/mine", "r")},
	"devices.permissions of none":         {set: device("/dev/null", "/dev/mine", "rx"), code: codes.InvalidArgument, text: "devices[0].permissions"},
	"CDI_devices.name": {script: `echo "$THING"`, set: func(t *testing.T, req *cri.CreateContainerRequest) {
		if err := os.MkdirAll("/etc/cdi", 0o755); err != nil { // the tests' own
			t.Fatal(err)
		}
		const spec = `{"cdiVersion": "0.5.0", "kind": "test.mascri/thing", "devices": [{"name": "one", "containerEdits": {"env": ["THING=here"]}}]}`
		if err := os.WriteFile("/etc/cdi/thing.json", []byte(spec), 0o600); err != nil {
			t.Fatal(err)
		}
		cdi("test.mascri/thing=one")(t, req)
	}, see: wantOutput("here\n"), old: oldCDI},
	"CDI_devices.name of none":      {set: cdi("test.mascri/none=one"), code: codes.Internal, text: "test.mascri/none=one", start: true, old: "CDI_devices"},
	"CDI_devices.name that is none": {set: cdi("thing"), code: codes.InvalidArgument, text: "CDI_devices[0].name"},
})

func device(host, container, permissions string) func(*testing.T, *cri.CreateContainerRequest) {
	return configured(func(c *cri.ContainerConfig) {
		c.Devices = []*cri.Device{{HostPath: host, ContainerPath: container, Permissions: permissions}}
	})
}

func cdi(name string) func(*testing.T, *cri.CreateContainerRequest) {
	return configured(func(c *cri.ContainerConfig) { c.CDIDevices = []*cri.CDIDevice{{Name: name}} })
}

// wantDevice checks that a path of the container is /dev/loop-control of the node, and what
// its cgroup allows.
func wantDevice(path, permissions string) func(*testing.T, *bench, container) {
	return func(t *testing.T, _ *bench, c container) {
		t.Helper()
		var node, inside unix.Stat_t
		if err := unix.Stat("/dev/loop-control", &node); err != nil {
			t.Fatal(err)
		}
		if err := unix.Stat(fmt.Sprintf("/proc/%d/root%s", c.pid(t), path), &inside); err != nil || inside.Rdev != node.Rdev {
			t.Errorf("%s is device %d, %v; want %d", path, inside.Rdev, err, node.Rdev)
		}
		want := fmt.Sprintf("c %d:%d %s", unix.Major(node.Rdev), unix.Minor(node.Rdev), permissions)
		if list := c.cgroup(t, "devices", "devices.list"); !strings.Contains(list+"\n", want+"\n") {
			t.Errorf("allowed devices lack %q:\n%s", want, list)
		}
	}
}
