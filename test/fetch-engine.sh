#!/bin/bash
# fetch-engine.sh DIR
#
# Unpacks Docker Engine 28 and containerd 2 from a later Debian suite into DIR, for the
# tests: nothing is installed. The packages come from where this machine's own apt gets
# its packages; apt's state is not touched. Exit code 3: this machine is no Debian.
set -euo pipefail
dir=$(realpath -m "${1:?fetch-engine.sh DIR}")
suite=forky
keyring=/usr/share/keyrings/debian-archive-keyring.gpg

. /etc/os-release
if [ "$ID" != debian ] || [ ! -f "$keyring" ]; then
	echo "Docker Engine 28 for the tests is taken from Debian's packages; this is ${PRETTY_NAME:-$ID}" >&2
	exit 3
fi

# The archive that apt uses here, without its security part.
archive() {
	cat /etc/apt/sources.list.d/debian.sources /etc/apt/sources.list 2>/dev/null |
		sed -nE '/security/d; s/^URIs: *([^ ]+).*/\1/p; s/^deb (\[[^]]*\] )?([^ ]+) .*/\2/p' | head -n 1
}

tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
mkdir -p "$tmp"/{lists,cache,debs,root}
url=$(archive || true)
[ -n "$url" ] || { echo "no Debian archive is named in /etc/apt/sources.list or sources.list.d/debian.sources" >&2; exit 1; }
echo "deb [signed-by=$keyring] $url $suite main" >"$tmp/sources.list"
apt=(apt-get -qq -o Dir::Etc::sourcelist="$tmp/sources.list" -o Dir::Etc::sourceparts=/dev/null -o Dir::Etc::preferencesparts=/dev/null
	-o Dir::State::lists="$tmp/lists" -o Dir::Cache="$tmp/cache" -o APT::Sandbox::User=root
	-o Acquire::Languages=none -o Acquire::Check-Valid-Until=false)

echo "fetching Docker Engine from Debian $suite"
"${apt[@]}" update
(cd "$tmp/debs" && "${apt[@]}" download docker.io docker-cli containerd)
for deb in "$tmp"/debs/*.deb; do dpkg -x "$deb" "$tmp/root"; done
# Its runc needs a newer C library than many machines have: theirs is used.
rm -f "$tmp"/root/usr/{,s}bin/runc
rm -rf "$tmp"/root/{etc,lib,usr/lib,usr/share}
rm -rf "$dir" && mkdir -p "$(dirname "$dir")" && mv "$tmp/root" "$dir"
"$dir/usr/sbin/dockerd" --version
"$dir/usr/bin/containerd" --version
