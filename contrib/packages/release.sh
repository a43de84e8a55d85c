#!/bin/bash
# release.sh VERSION DIRECTORY
#
# Makes what is released of this tree: for amd64 and arm64 an archive, a .deb, a .rpm and
# the bill of materials of mascri (CycloneDX; the archive has those of all its programs),
# and SHA256SUMS over all of it. The same tree gives the same bytes, wherever it is: all
# times are that of the commit, or SOURCE_DATE_EPOCH.
set -euo pipefail
cd "$(dirname "$(realpath "$0")")/../.."
version=$1 out=$(realpath -m "$2")
[ -z "$(ls -A "$out" 2>/dev/null)" ] || { echo "release.sh: $out has something in it; name a directory that does not exist" >&2; exit 2; }
export SOURCE_DATE_EPOCH=${SOURCE_DATE_EPOCH:-$(git -c safe.directory="$PWD" log -1 --format=%ct)} LC_ALL=C TZ=UTC
umask 022
mkdir -p out
work=$(mktemp -d out/release.XXXXXX) # the Makefile takes no other
trap 'rm -rf "$work"' EXIT

CGO_ENABLED=0 GOARCH=$(go env GOHOSTARCH) go build -C tools/release -buildvcs=false -trimpath -o "$PWD/$work/tools/" tool

# documents TREE writes into it what the program itself tells: pages, completions, settings.
documents() {
	local tree=$1 program=$work/$(go env GOHOSTARCH)/mascri shell
	mkdir -p "$tree/completions"
	"$program" man "$tree/man"
	gzip -9n "$tree"/man/*
	for shell in bash zsh fish; do
		"$program" completion $shell >"$tree/completions/$(case $shell in zsh) echo _mascri ;; *) echo mascri.$shell ;; esac)"
	done
	"$program" config default | sed 's/^\([a-z]\)/#\1/' >"$tree/config.toml"
}

# bills TREE ARCH writes into it a bill of materials for each program, the one within the
# sandbox image among them.
bills() {
	local program
	mkdir "$1/sbom"
	bill "$1/mascri" "$1/sbom/mascri" -version "v$version"
	bill "internal/sandboximage/rootfs/$2/ip" "$1/sbom/sandbox-image-ip"
	for program in "$1"/cni/*; do bill "$program" "$1/sbom/cni-${program##*/}"; done
}
bill() { "$work/tools/cyclonedx-gomod" bin -json -noserial -notimestamp "${@:3}" -output "$2.cdx.json" "$1" 2>"$work/log" || { cat "$work/log" >&2; exit 1; }; }

# package KIND ARCH
package() {
	sed "s|@ARCH@|$2|; s|@VERSION@|$version|; s|@MTIME@|$(date -u -d "@$SOURCE_DATE_EPOCH" +%FT%TZ)|; s|@TREE@|$work/package|" contrib/packages/nfpm.yaml >"$work/nfpm.yaml"
	"$work/tools/nfpm" package --config "$work/nfpm.yaml" --packager "$1" --target "$out/mascri_${version}_linux_$2.$1" >/dev/null
}

mkdir -p "$out"
for arch in amd64 arm64; do
	make --no-print-directory GOARCH=$arch BIN="$work/$arch" VERSION="$version" "$work/$arch/mascri" "$work/$arch/cni"
done
for arch in amd64 arm64; do
	name=mascri_${version}_linux_$arch
	tree=$work/$name
	mkdir "$tree"
	cp -r "$work/$arch"/{mascri,cni} contrib/systemd docs README.md CHANGELOG.md LICENSE "$tree/"
	rm "$tree/systemd/units.go"
	GOARCH=$arch contrib/packages/licenses.sh . ./cmd/mascri tools/cni tool tools/image tool >"$tree/THIRD_PARTY_LICENSES"
	documents "$tree"
	bills "$tree" $arch
	rm -rf "$work/package" && cp -r "$tree" "$work/package"
	sed -i 's,/usr/local/bin/,/usr/bin/,' "$work/package/systemd/mascri.service"
	find "$tree" "$work/package" -exec touch --no-dereference --date "@$SOURCE_DATE_EPOCH" {} +
	tar -C "$work" --sort=name --owner=0 --group=0 --numeric-owner --format=ustar --mtime "@$SOURCE_DATE_EPOCH" -c "$name" | gzip -9n >"$out/$name.tar.gz"
	package deb $arch
	package rpm $arch
	cp "$tree/sbom/mascri.cdx.json" "$out/$name.cdx.json"
done
(cd "$out" && sha256sum -- mascri_* >SHA256SUMS)
ls -l "$out" | awk 'NR > 1 { printf "%12d  %s\n", $5, $9 }'
