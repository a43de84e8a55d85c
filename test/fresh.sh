#!/bin/bash
# fresh.sh takes the time that "make demo" needs from nothing to the first pod's IP: in a new
# Debian with nothing but apt and make in it, and namespaces of its own. Packages and Go's modules
# are downloaded before, and Go is mounted; nothing is built yet, and nothing has been installed.
set -Eeuo pipefail
root=$(dirname "$(dirname "$(realpath "$0")")")
cd "$root"
. test/debian.sh

# inside runs in the new system, as its first process.
inside() {
	ip link set lo up
	cd "$1"
	mount --bind "$1" "$1"
	cd "$1"
	mkdir -p old
	mount --rbind /sys sys
	mount --rbind /dev dev
	mount -t tmpfs -o mode=755 tmpfs run
	mkdir -p usr/local/go modules var/lib/docker
	mount --rbind "$(go env GOROOT)" usr/local/go
	mount --bind "$(go env GOMODCACHE)" modules
	mount -t tmpfs tmpfs var/lib/docker # not on another overlay
	pivot_root . old
	mount -t proc proc /proc
	umount -l /old
	export HOME=/root PATH=/usr/local/go/bin:/usr/sbin:/usr/bin:/sbin:/bin GOMODCACHE=/modules GOPROXY=off GOFLAGS=-mod=mod
	cd /root/mascri
	make demo 2>&1 | while IFS= read -r line; do
		printf '%4d s  %s\n' $SECONDS "$line"
		[[ ! $line =~ ^\ +web\ +10\. ]] || echo "fresh: the first pod has its IP after $SECONDS s"
	done
}
if [ "${1:-}" = --inside ]; then inside "$2"; exit; fi

[ "$(id -u)" = 0 ] || { echo "fresh.sh: needs root" >&2; exit 1; }
is_debian || { echo "fresh.sh: this machine is not one of Debian's" >&2; exit 1; }
codename=$(. /etc/os-release && echo "$VERSION_CODENAME")
command -v mmdebstrap >/dev/null || test/deps.sh mmdebstrap
work=$(mktemp -d)
trap 'rm -rf --one-file-system "$work"' EXIT
echo "fresh: a new Debian, with the packages in apt's cache"
mmdebstrap --quiet --mode=root --variant=apt --include=make,mount,ca-certificates --skip=cleanup/apt "$codename" "$work/root" "deb [signed-by=$keyring] $(archive) $codename main"
needs=$(sed -nE '/^needs="/,/^"/s/^[a-z]+ ([a-z0-9.-]+)$/\1/p' test/deps.sh | grep -v docker-cli)
chroot "$work/root" apt-get install -qq --download-only --no-install-recommends $needs libc6-dev >/dev/null
git -c safe.directory='*' clone -q --no-local "$root" "$work/root/root/mascri"
unshare --mount --net --pid --fork --kill-child --propagation private "$0" --inside "$work/root"
