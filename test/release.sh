#!/bin/bash
# release.sh shows that a release is what it says: two builds of this commit in different
# directories, without a cache in common, are the same to the byte; the packages can be
# installed, upgraded and removed, and leave what a user has edited; what is for arm64 runs.
#
# It needs root, and by apt mmdebstrap, rpm, file and a C compiler for arm64, which are installed where missing.
set -Eeuo pipefail
cd "$(dirname "$(dirname "$(realpath "$0")")")"
. test/debian.sh
trap 'echo "error: line $LINENO failed: $BASH_COMMAND" >&2' ERR
is_debian || { echo "release.sh: the packages are tried in a root of Debian's, and this machine is not one of Debian's" >&2; exit 1; }
missing=()
for pair in mmdebstrap:mmdebstrap rpm:rpm file:file aarch64-linux-gnu-gcc:gcc-aarch64-linux-gnu; do
	command -v "${pair%%:*}" >/dev/null || missing+=("${pair#*:}")
done
[ ${#missing[@]} = 0 ] || test/deps.sh "${missing[@]}"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# clone DIRECTORY is this commit, elsewhere.
clone() { git -c safe.directory="$PWD" clone -q --no-local "$PWD" "$1" 2>/dev/null || git -c safe.directory='*' clone -q "$PWD/.git" "$1"; }

# told VERSION PROGRAM... fails unless the program says that it is of that version.
told() {
	local text
	text=$("${@:2}" version)
	[[ $text =~ ^mascri\ +$1$'\n' ]] || { echo "error: not version $1 but: $text" >&2; return 1; }
	echo "      ${text%%$'\n'*}"
}

echo "[1/5] two releases of $(git -c safe.directory="$PWD" rev-parse --short HEAD), 0.1.0, and one of 0.2.0"
clone "$work/one"
clone "$work/another/place"
make -s -C "$work/one" release VERSION=0.1.0
mv "$work/one/out/release" "$work/0.1.0"
GOCACHE=$work/cache make -s -C "$work/another/place" release VERSION=0.1.0 >/dev/null
diff -r "$work/0.1.0" "$work/another/place/out/release"
echo "      both are the same to the byte"
(cd "$work/0.1.0" && sha256sum --check --quiet SHA256SUMS)
make -s -C "$work/one" release VERSION=0.2.0 >/dev/null
mv "$work/one/out/release" "$work/0.2.0"

echo "[2/5] what is in it"
tar -tzf "$work/0.1.0/mascri_0.1.0_linux_amd64.tar.gz" >"$work/list"
for file in mascri cni/bridge systemd/mascri.service systemd/mascri.socket completions/mascri.bash man/mascri-install.8.gz config.toml sbom/cni-bridge.cdx.json LICENSE THIRD_PARTY_LICENSES; do
	grep -qx "mascri_0.1.0_linux_amd64/$file" "$work/list"
done
for arch in amd64:x86-64 arm64:aarch64; do
	tar -xzf "$work/0.1.0/mascri_0.1.0_linux_${arch%%:*}.tar.gz" -C "$work"
	tree=$work/mascri_0.1.0_linux_${arch%%:*}
	for program in "$tree/mascri" "$tree"/cni/*; do
		file -b "$program" >"$work/kind"
		grep -q "${arch#*:}" "$work/kind"
		grep -q 'statically linked' "$work/kind"
	done
	cut -c -70 "$work/kind"
	grep -q '"name": "google.golang.org/grpc"' "$work/0.1.0/mascri_0.1.0_linux_${arch%%:*}.cdx.json"
	grep -q '"name": "github.com/u-root/u-root"' "$tree/sbom/sandbox-image-ip.cdx.json"
	grep -q '"name": "github.com/mattn/go-shellwords"' "$tree/sbom/cni-portmap.cdx.json"
done
told 0.1.0 "$work/mascri_0.1.0_linux_amd64/mascri"
"$work/mascri_0.1.0_linux_amd64/mascri" config check --config "$work/mascri_0.1.0_linux_amd64/config.toml"

# root DIRECTORY makes a Debian without anything of MasCRI's.
root() {
	mmdebstrap --quiet --mode=root --format=directory --variant=minbase --aptopt='Acquire::Check-Valid-Until "false"' \
		--include=init-system-helpers "$suite" "$1" "deb [signed-by=$keyring] $(archive) $suite main"
}
root "$work/root"
cp -r "$work"/0.?.0/*amd64.{deb,rpm} "$work/root/root/"
inside() { chroot "$work/root" "$@"; }
has() { [ -e "$work/root$1" ] || [ -L "$work/root$1" ]; }
lacks() { ! has "$1"; } # "set -e" passes over a "!" of its own
files() { (cd "$work/root" && find usr etc -not -path '*/__pycache__*' | sort); }

edited() { grep -qx "log_level = 'debug'" "$work/root/etc/mascri/config.toml"; }

echo "[3/5] the .deb"
files >"$work/before"
inside dpkg -i /root/mascri_0.1.0_linux_amd64.deb >/dev/null
told 0.1.0 inside mascri
has /etc/systemd/system/multi-user.target.wants/mascri.service
has /etc/systemd/system/sockets.target.wants/mascri.socket
grep -q '^ExecStart=/usr/bin/mascri serve' "$work/root/usr/lib/systemd/system/mascri.service"
echo "log_level = 'debug'" >"$work/root/etc/mascri/config.toml"
inside dpkg -i /root/mascri_0.2.0_linux_amd64.deb >/dev/null
told 0.2.0 inside mascri
edited
mkdir -p "$work/root/var/lib/mascri/attachments"
touch "$work/root/var/lib/mascri/attachments/pod.json"
inside dpkg -r mascri >/dev/null
edited
lacks /usr/bin/mascri
inside dpkg -P mascri >/dev/null
has /var/lib/mascri/attachments/pod.json
inside dpkg -i /root/mascri_0.2.0_linux_amd64.deb >/dev/null
rm "$work/root/var/lib/mascri/attachments/pod.json"
inside dpkg -P mascri >/dev/null
lacks /var/lib/mascri
files | diff "$work/before" -
echo "      installed, upgraded, removed, purged; an edited config.toml stays until then, and state while a pod is on a network"

echo "[4/5] the .rpm"
rpm --root "$work/root" --initdb
files >"$work/before"
rpm --force-debian --root "$work/root" -i --nodeps "$work/0.1.0/mascri_0.1.0_linux_amd64.rpm"
told 0.1.0 inside mascri
echo "log_level = 'debug'" >"$work/root/etc/mascri/config.toml"
rpm --force-debian --root "$work/root" -U --nodeps "$work/0.2.0/mascri_0.2.0_linux_amd64.rpm"
told 0.2.0 inside mascri
edited
rpm --force-debian --root "$work/root" -e mascri
lacks /usr/bin/mascri
has /etc/mascri/config.toml.rpmsave
rm -r "$work/root/etc/mascri"
files | diff "$work/before" -
echo "      installed, upgraded, removed; an edited config.toml is kept as config.toml.rpmsave"

echo "[5/5] arm64, emulated"
# Unpacked, not installed: that would register the emulator with this machine's kernel.
emulator=$(type -P qemu-aarch64-static || true)
if [ -z "$emulator" ]; then
	(cd "$work" && apt-get download -qq qemu-user-static && dpkg -x qemu-user-static_*.deb qemu) 2>/dev/null
	emulator=$work/qemu/usr/bin/qemu-aarch64-static
fi
make -s bin/crictl
test/private.sh test/emulated.sh "$emulator" "$work/mascri_0.1.0_linux_arm64"
