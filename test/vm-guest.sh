#!/bin/bash
# vm-guest.sh smoke|workloads|kubelet|network|image|install is what the VM runs.
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

# network attaches pods by the chains of plugins that need what other kernels may lack: all of
# them must have run. The test needs namespaces of its own, and here more time for them than it
# gives itself.
network() {
	local chains=/tmp/chains.log
	(cd internal/network && unshare -m -n env MASCRI_NETLAB=1 ./network.test -test.run '^TestChainsOfStandardPlugins$' -test.v -test.timeout 10m) >$chains 2>&1
	grep -E '^ *--- |^(ok|FAIL|PASS|panic)' $chains
	grep -q '^PASS' $chains && ! grep -qE -- '--- (SKIP|FAIL)' $chains || { tail -n 60 $chains; return 1; }
}

echo # the kernel's last words end without a newline
say "kernel $(uname -r), $(systemctl --version | head -n 1), $(stat -fc %T /sys/fs/cgroup)"
say "docker $(docker version -f '{{.Server.Version}}'), cgroup driver $(docker info -f '{{.CgroupDriver}}, cgroup v{{.CgroupVersion}}')"
say "FORWARD policy: $(iptables -S FORWARD | head -n 1)"
case $1 in
smoke) smoke ;;
workloads) try test/workloads.sh ;;
network) try network ;;
kubelet) try test/kubelet.sh ;;
image) try test/image.sh ;;
install) try test/install.sh ;;
esac
say "exit code $rc"
