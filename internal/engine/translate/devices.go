package translate

import (
	"cmp"
	"fmt"
	"path"
	"strings"

	"github.com/moby/moby/api/types/container"

	"github.com/mascri/mascri/internal/pod"
)

const allAccess = "rwm"

// devices passes the node's devices, and those that vendors describe by CDI.
func devices(spec pod.ContainerSpec, host Host, _ *container.Config, out *container.HostConfig) error {
	for i, in := range spec.Config.GetDevices() {
		field := fmt.Sprintf("devices[%d].", i)
		for name, p := range map[string]string{"host_path": in.GetHostPath(), "container_path": in.GetContainerPath()} {
			if !path.IsAbs(p) {
				return invalid("%s%s: %q is not absolute", field, name, p)
			}
		}
		permissions := cmp.Or(in.GetPermissions(), allAccess)
		if strings.Trim(permissions, allAccess) != "" {
			return invalid("%spermissions: %q has others than r, w and m", field, in.GetPermissions())
		}
		out.Devices = append(out.Devices, container.DeviceMapping{
			PathOnHost: in.GetHostPath(), PathInContainer: in.GetContainerPath(), CgroupPermissions: permissions,
		})
	}
	var names []string
	for i, in := range spec.Config.GetCDIDevices() {
		if !strings.Contains(in.GetName(), "=") {
			return invalid("CDI_devices[%d].name: %q is not of the form vendor.com/class=name", i, in.GetName())
		}
		names = append(names, in.GetName())
	}
	if len(names) == 0 {
		return nil
	}
	if !host.Facts.CDI {
		return unmet("CDI_devices: %s: the engine (%s) has CDI off: use engine 28.2 or newer, or set \"features\": {\"cdi\": true} in the daemon.json of engine 25 or newer", strings.Join(names, ", "), host.Facts.Version)
	}
	out.DeviceRequests = []container.DeviceRequest{{Driver: "cdi", DeviceIDs: names}}
	return nil
}
