#!/bin/bash
# fetch-engine.sh DIR
#
# Unpacks Docker Engine 28 and containerd 2 from a later Debian suite into DIR, for the
# tests: nothing is installed. The packages come from where this machine's own apt gets
# its packages; apt's state is not touched. Exit code 3: this machine is no Debian.
set -euo pipefail
dir=$(realpath -m "${1:?fetch-engine.sh DIR}")
. "$(dirname "$(realpath "$0")")/debian.sh"
is_debian || { echo "Docker Engine 28 for the tests is taken from Debian's packages, and this machine is not one of Debian's" >&2; exit 3; }
if [ -e "$dir" ] && [ ! -x "$dir/usr/sbin/dockerd" ] && [ -n "$(ls -A "$dir")" ]; then
	echo "fetch-engine.sh: $dir has other things in it; name a directory that does not exist" >&2
	exit 2
fi

tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
echo "fetching Docker Engine from Debian $suite"
unpack "$tmp" docker.io docker-cli containerd
# Its runc needs a newer C library than many machines have: theirs is used.
rm -f "$tmp"/root/usr/{,s}bin/runc
rm -rf "$tmp"/root/{etc,lib,usr/lib,usr/share}
rm -rf "$dir" && mkdir -p "$(dirname "$dir")" && mv "$tmp/root" "$dir"
"$dir/usr/sbin/dockerd" --version
"$dir/usr/bin/containerd" --version
