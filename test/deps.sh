#!/bin/bash
# deps.sh [PACKAGE...]
#
# Installs by apt what building, the demo and the tests need and this machine lacks;
# with arguments, those packages. What is there already, from wherever, is left alone.
set -euo pipefail

die() { echo "error: $*" >&2; exit 1; }

[ "$(id -u)" = 0 ] || die "this needs root: pods need namespaces, mounts and a Docker Engine. Try: sudo env PATH=\"\$PATH\" make ..."
[ "$(uname -s)" = Linux ] || die "this needs Linux; on a Mac, see the README on Docker Desktop"

# A command and the package that brings it.
needs="
dockerd docker.io
docker docker-cli
iptables iptables
nft nftables
ip iproute2
nsenter util-linux
busybox busybox-static
ps procps
gcc gcc
git git
"
missing=("$@")
if [ $# = 0 ]; then
	while read -r command package; do
		[ -z "$command" ] || command -v "$command" >/dev/null || missing+=("$package")
	done <<<"$needs"
	# The race detector links against the C library.
	[ -e /usr/include/stdlib.h ] || missing+=(libc6-dev)
fi
[ ${#missing[@]} -gt 0 ] || exit 0

command -v apt-get >/dev/null || die "these packages are missing and there is no apt to install them: ${missing[*]}"
export DEBIAN_FRONTEND=noninteractive
log=$(mktemp)
trap 'rm -f "$log"' EXIT
run() { "$@" >"$log" 2>&1 </dev/null || { tail -n 20 "$log" >&2; die "\"$*\" failed; is there a network, and are apt's sources right?"; }; }

echo "deps: missing: ${missing[*]}"
echo "deps: apt-get update"
run apt-get update -q
for package in "${missing[@]}"; do
	# In older releases docker.io has the client in it.
	[ "$package" != docker-cli ] || [ -n "$(apt-cache madison docker-cli)" ] || continue
	echo "deps: installing $package"
	run apt-get install -q -y --no-install-recommends "$package"
done
