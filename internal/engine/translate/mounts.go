package translate

import (
	"fmt"
	"path"
	"strings"

	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/mount"
	"github.com/moby/moby/client/pkg/versions"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/mascri/mascri/internal/pod"
)

const (
	// recursiveReadOnlyAPI is the first API version that tells read-only mounts from
	// recursively read-only ones (engine 25).
	recursiveReadOnlyAPI = "1.44"
	// imageMountAPI is the first API version with mounts of images (engine 28).
	imageMountAPI = "1.48"
)

// propagations are Docker's names. The CRI means the whole tree of mounts.
var propagations = map[cri.MountPropagation]mount.Propagation{
	cri.MountPropagation_PROPAGATION_PRIVATE:           mount.PropagationRPrivate,
	cri.MountPropagation_PROPAGATION_HOST_TO_CONTAINER: mount.PropagationRSlave,
	cri.MountPropagation_PROPAGATION_BIDIRECTIONAL:     mount.PropagationRShared,
}

// KnowsRecursiveReadOnly tells whether an engine can be asked for recursively read-only
// mounts. Whether it can make them is up to the OCI runtime and the kernel.
func KnowsRecursiveReadOnly(apiVersion string) bool {
	return !versions.LessThan(apiVersion, recursiveReadOnlyAPI)
}

func mounts(spec pod.ContainerSpec, host Host, _ *container.Config, out *container.HostConfig) error {
	for i, in := range spec.Config.GetMounts() {
		field := fmt.Sprintf("mounts[%d].", i)
		if err := checkMount(field, in); err != nil {
			return err
		}
		switch {
		case in.GetImage().GetImage() != "":
			if versions.LessThan(host.Facts.APIVersion, imageMountAPI) {
				return unmet("%simage: needs Docker Engine 28; this is %s", field, host.Facts.Version)
			}
			m := mount.Mount{Type: mount.TypeImage, Source: in.GetImage().GetImage(), Target: in.GetContainerPath(), ReadOnly: true}
			if in.GetImageSubPath() != "" {
				m.ImageOptions = &mount.ImageOptions{Subpath: in.GetImageSubPath()}
			}
			out.Mounts = append(out.Mounts, m)
		case in.GetSelinuxRelabel() && host.Facts.SELinux:
			bind, err := relabelled(field, in)
			if err != nil {
				return err
			}
			out.Binds = append(out.Binds, bind)
		default:
			m, err := bound(field, in, host.Facts)
			if err != nil {
				return err
			}
			out.Mounts = append(out.Mounts, m)
		}
	}
	return nil
}

// checkMount holds a mount to the CRI, and to what Docker's API has words for.
func checkMount(field string, in *cri.Mount) error {
	_, known := propagations[in.GetPropagation()]
	image := in.GetImage().GetImage() != ""
	switch {
	case !path.IsAbs(in.GetContainerPath()):
		return invalid("%scontainer_path: %q is not absolute", field, in.GetContainerPath())
	case !known:
		return invalid("%spropagation: unknown value %d", field, in.GetPropagation())
	case len(in.GetUidMappings())+len(in.GetGidMappings()) > 0:
		return unsayable("%suidMappings, gidMappings: Docker's API has no idmapped mounts", field)
	case len(in.GetMountOptions()) > 0:
		return unsayable("%smount_options: %s: Docker's API has none for bind mounts", field, strings.Join(in.GetMountOptions(), ","))
	case in.GetRecursiveReadOnly() && !in.GetReadonly():
		return invalid("%srecursive_read_only: needs readonly", field)
	case in.GetRecursiveReadOnly() && in.GetPropagation() != cri.MountPropagation_PROPAGATION_PRIVATE:
		return invalid("%srecursive_read_only: needs propagation PRIVATE, not %s", field, in.GetPropagation())
	case image && in.GetPropagation() != cri.MountPropagation_PROPAGATION_PRIVATE:
		return invalid("%spropagation: %s has no meaning for an image, which nothing is mounted in", field, in.GetPropagation())
	case image && in.GetHostPath() != "":
		return invalid("%shost_path: %q given with an image", field, in.GetHostPath())
	case image:
		return checkSubPath(field, in)
	case in.GetImageSubPath() != "":
		return invalid("%simage_sub_path: %q given without an image", field, in.GetImageSubPath())
	case !path.IsAbs(in.GetHostPath()):
		return invalid("%shost_path: %q is not absolute", field, in.GetHostPath())
	}
	return nil
}

// checkSubPath keeps a path inside of its image.
func checkSubPath(field string, in *cri.Mount) error {
	sub := in.GetImageSubPath()
	if path.IsAbs(sub) || sub != "" && path.Clean(sub) != strings.TrimSuffix(sub, "/") || strings.HasPrefix(sub, "..") {
		return invalid("%simage_sub_path: %q is not a relative path inside of the image", field, sub)
	}
	return nil
}

// bound is a bind mount. Engines that can make a mount read-only with all that is mounted
// below it do so unless they are told otherwise.
func bound(field string, in *cri.Mount, facts pod.EngineFacts) (mount.Mount, error) {
	m := mount.Mount{
		Type: mount.TypeBind, Source: in.GetHostPath(), Target: in.GetContainerPath(), ReadOnly: in.GetReadonly(),
		BindOptions: &mount.BindOptions{Propagation: propagations[in.GetPropagation()]},
	}
	switch {
	case in.GetRecursiveReadOnly() && !KnowsRecursiveReadOnly(facts.APIVersion):
		return m, unmet("%srecursive_read_only: needs Docker Engine 25; this is %s", field, facts.Version)
	case in.GetRecursiveReadOnly():
		m.BindOptions.ReadOnlyForceRecursive = true
	case in.GetReadonly() && KnowsRecursiveReadOnly(facts.APIVersion):
		m.BindOptions.ReadOnlyNonRecursive = true
	}
	return m, nil
}

// relabelled is a bind mount whose files get the container's SELinux label. Docker has
// that only in its older form of a bind, which can't say that read-only is not meant for
// what is mounted below: there the engine makes all of it read-only.
func relabelled(field string, in *cri.Mount) (string, error) {
	if in.GetRecursiveReadOnly() {
		return "", unsayable("%srecursive_read_only: Docker's API can't relabel such a mount for SELinux", field)
	}
	for name, p := range map[string]string{"host_path": in.GetHostPath(), "container_path": in.GetContainerPath()} {
		if strings.Contains(p, ":") {
			return "", unsayable("%s%s: %q has a colon, and Docker's API can't relabel such a path for SELinux", field, name, p)
		}
	}
	options := "Z," + string(propagations[in.GetPropagation()])
	if in.GetReadonly() {
		options += ",ro"
	}
	return in.GetHostPath() + ":" + in.GetContainerPath() + ":" + options, nil
}
