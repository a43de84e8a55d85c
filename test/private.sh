#!/bin/bash
# private.sh COMMAND...
#
# Runs COMMAND as on a fresh machine beside this one: in mount, network and pid
# namespaces of its own, with nothing in /run, /etc/cni and
# /var/lib/{docker,containerd,cni,mascri}. What it writes below /etc, /var/lib and
# /var/log nobody else sees, and what it starts ends with it.
set -euo pipefail

if [ "${1:-}" != --inside ]; then
	[ "$(id -u)" = 0 ] || { echo "private.sh: needs root" >&2; exit 1; }
	[ $# -gt 0 ] || { echo "usage: private.sh COMMAND..." >&2; exit 2; }
	exec unshare --mount --net --pid --fork --kill-child --mount-proc --propagation private "$0" --inside "$@"
fi
shift

# Overlays, since an engine and a runtime may write anywhere there: dockerd puts a
# key into /etc/docker. What is mounted in /run, as pods' network namespaces are, would
# still be listed below a new one.
umount --recursive --quiet /run/netns || true
mount -t tmpfs tmpfs /run
for dir in /etc /var/lib /var/log; do
	mkdir -p "/run$dir"/{upper,work}
	mount -t overlay -o "lowerdir=$dir,upperdir=/run$dir/upper,workdir=/run$dir/work" overlay "$dir"
done
mount -t tmpfs -o mode=755 tmpfs /run
for dir in /etc/cni /var/lib/{docker,containerd,cni,mascri}; do
	mkdir -p "$dir"
	mount -t tmpfs -o mode=755 tmpfs "$dir"
done
ip link set lo up
# A new network namespace takes this over from the first.
echo 0 | tee /proc/sys/net/ipv4/ip_forward > /proc/sys/net/ipv6/conf/all/forwarding

export MASCRI_PRIVATE=1 # for scripts that are for nowhere else
# Not exec: the first process of a pid namespace has to reap what falls to it.
"$@"
