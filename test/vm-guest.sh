#!/bin/bash
# vm-guest.sh smoke|workloads|image is what the VM runs.
cd "$(dirname "$0")/.." || exit 1
say() { echo "guest: $*"; }
rc=0
try() { "$@" || { rc=$?; say "failed: $*"; }; }

# smoke runs the demo as it is, and once more with pods in a slice, as the kubelet
# asks for with the systemd cgroup driver.
smoke() {
	try test/demo.sh
	try env POD_CGROUP_PARENT=/kubepods.slice/kubepods-besteffort.slice test/demo.sh
}

echo # the kernel's last words end without a newline
say "kernel $(uname -r), $(systemctl --version | head -n 1), $(stat -fc %T /sys/fs/cgroup)"
say "docker $(docker version -f '{{.Server.Version}}'), cgroup driver $(docker info -f '{{.CgroupDriver}}, cgroup v{{.CgroupVersion}}')"
say "FORWARD policy: $(iptables -S FORWARD | head -n 1)"
case $1 in
smoke) smoke ;;
workloads) try test/workloads.sh ;;
image) try test/image.sh ;;
esac
say "exit code $rc"
