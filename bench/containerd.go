package main

import "fmt"

// containerdPaths are what a containerd's config names. What it does not name is as
// containerd has it by default: overlayfs, cgroupfs, no SELinux.
type containerdPaths struct {
	socket, dir, confDir, binDir, image, runtime string
}

// containerd2 is a config of the form that containerd has from 2.0 on.
func containerd2(p containerdPaths) string {
	return fmt.Sprintf(`version = 3
root = '%[2]s/root'
state = '/run/containerd'
[grpc]
  address = '%[1]s'
[plugins.'io.containerd.internal.v1.opt']
  path = '%[2]s/opt'
[plugins.'io.containerd.cri.v1.images'.pinned_images]
  sandbox = '%[5]s'
[plugins.'io.containerd.cri.v1.runtime']
  restrict_oom_score_adj = true
[plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.runc]
  runtime_type = 'io.containerd.runc.v2'
[plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.runc.options]
  BinaryName = '%[6]s'
[plugins.'io.containerd.cri.v1.runtime'.cni]
  bin_dirs = ['%[4]s']
  conf_dir = '%[3]s'
`, p.socket, p.dir, p.confDir, p.binDir, p.image, p.runtime)
}

// containerd1 is the same for containerd 1.
func containerd1(p containerdPaths) string {
	return fmt.Sprintf(`version = 2
root = '%[2]s/root'
state = '/run/containerd'
[grpc]
  address = '%[1]s'
[plugins.'io.containerd.internal.v1.opt']
  path = '%[2]s/opt'
[plugins.'io.containerd.grpc.v1.cri']
  sandbox_image = '%[5]s'
  restrict_oom_score_adj = true
[plugins.'io.containerd.grpc.v1.cri'.containerd.runtimes.runc]
  runtime_type = 'io.containerd.runc.v2'
[plugins.'io.containerd.grpc.v1.cri'.containerd.runtimes.runc.options]
  BinaryName = '%[6]s'
[plugins.'io.containerd.grpc.v1.cri'.cni]
  bin_dir = '%[4]s'
  conf_dir = '%[3]s'
`, p.socket, p.dir, p.confDir, p.binDir, p.image, p.runtime)
}
