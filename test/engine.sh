#!/bin/bash
# engine.sh 20.10|28 COMMAND...
#
# Runs COMMAND with a Docker Engine of its own, in private mount, network and pid
# namespaces: beside the user's Docker, touching nothing of it. /run, /etc/cni and
# /var/lib/{docker,containerd,cni,mascri} are empty, what is written below /etc,
# /var/lib and /var/log is seen by nobody else, and all of it ends with COMMAND,
# whose exit code is passed on.
#
# 20.10 stands for the engine that is installed, 28 for the one in bin/engine28.
# COMMAND finds $DOCKER_HOST, $ENGINE_VERSION (as the engine tells), the engine's
# pid in /run/docker.pid, and in $ENGINE_START a command that starts it again.
set -euo pipefail
here=$(dirname "$(realpath "$0")")
root=$(dirname "$here")

die() { echo "engine.sh: $*" >&2; exit 1; }

# outside makes the namespaces, and clears away the cgroups, which outlive them.
outside() {
	[ "$(id -u)" = 0 ] || die "needs root"
	case ${1:-} in
	20.10) command -v dockerd >/dev/null || die "no dockerd: run test/deps.sh" ;;
	28) [ -x "$root/bin/engine28/dockerd" ] || die "no bin/engine28: run test/fetch-engine.sh bin/engine28" ;;
	*) die "usage: engine.sh 20.10|28 COMMAND..." ;;
	esac
	[ $# -ge 2 ] || die "no command"
	local rc=0
	export ENGINE_CGROUP=/mascri-test-$$
	mkdir -p "$root/out"
	unshare --mount --net --pid --fork --kill-child --mount-proc --propagation private "$0" --inside "$@" || rc=$?
	find /sys/fs/cgroup -depth -type d -path "*$ENGINE_CGROUP*" -exec rmdir {} + 2>/dev/null || true
	exit $rc
}

# shield makes the file system private where an engine and a runtime write.
shield() {
	local dir
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
}

# start starts the engine and waits until it answers.
start() {
	local log=$root/out/dockerd-$1.log pid i
	export DOCKER_HOST=unix:///run/docker.sock
	export ENGINE_START="exec dockerd --host $DOCKER_HOST --pidfile /run/docker.pid --cgroup-parent $ENGINE_CGROUP --exec-opt native.cgroupdriver=cgroupfs >>$log 2>&1"
	: >"$log"
	sh -c "$ENGINE_START" &
	pid=$!
	for i in $(seq 300); do
		ENGINE_VERSION=$(docker version -f '{{.Server.Version}}' 2>/dev/null) && break
		kill -0 $pid 2>/dev/null && [ "$i" -lt 300 ] || { tail -n 20 "$log" >&2; die "the engine does not start"; }
		sleep 0.1
	done
	export ENGINE_VERSION
}

# stop stops the engine that runs now: the command may have restarted it.
stop() {
	local pid i
	pid=$(cat /run/docker.pid 2>/dev/null) && kill "$pid" 2>/dev/null || return 0
	for i in $(seq 100); do kill -0 "$pid" 2>/dev/null || return 0; sleep 0.1; done
}

inside() {
	local which=$1 rc=0
	shift
	shield
	ip link set lo up
	# The later runc needs a newer C library than many machines have: theirs is used.
	[ "$which" = 20.10 ] || export PATH=$root/bin/engine28:$PATH
	start "$which"
	"$@" || rc=$?
	stop
	exit $rc
}

if [ "${1:-}" = --inside ]; then shift; inside "$@"; else outside "$@"; fi
