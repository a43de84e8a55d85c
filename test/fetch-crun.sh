#!/bin/bash
# fetch-crun.sh DIR
#
# Takes crun from a later Debian suite into DIR, for the benchmark: nothing is installed. It
# needs a newer C library than many machines have, and brings it. It needs patchelf, which is
# installed where missing.
set -euo pipefail
dir=$(realpath -m "${1:?fetch-crun.sh DIR}")
here=$(dirname "$(realpath "$0")")
. "$here/debian.sh"
is_debian || { echo "crun is taken from Debian's packages, and this machine is not one of Debian's" >&2; exit 3; }
command -v patchelf >/dev/null || "$here/deps.sh" patchelf

tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
echo "fetching crun from Debian $suite"
unpack "$tmp" crun libc6 libsystemd0 libseccomp2 libcap2 libblake3-0 libjson-c5
mkdir "$tmp/crun"
cp "$tmp/root/usr/bin/crun" "$tmp/crun/"
find "$tmp/root" \( -name 'ld-linux-*' -o -name 'lib*.so.*' \) -exec cp -L {} "$tmp/crun/" \;
patchelf --set-interpreter "$dir/$(basename "$tmp"/crun/ld-linux-*)" --set-rpath "$dir" --force-rpath "$tmp/crun/crun"
mkdir -p "$(dirname "$dir")"
mv -T "$tmp/crun" "$dir"
"$dir/crun" --version
