#!/bin/bash
# licenses.sh [DIRECTORY PACKAGES]...
#
# Prints the licenses of the code of others that is in programs, which Go links statically: of
# all packages that PACKAGES are made of by the go.mod in DIRECTORY, and of Go itself. The
# texts come from the module cache, each once; GOARCH is minded.
set -euo pipefail
export LC_ALL=C CGO_ENABLED=0
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# take NAME DIRECTORY notes the license files in a directory as NAME's.
take() {
	local file sum
	for file in "$2"/{LICEN[CS]E,COPYING,NOTICE,PATENTS}*; do
		[ -f "$file" ] || continue
		sum=$(sha256sum <"$file")
		cp "$file" "$work/${sum%% *}.text"
		echo "$1 (${file##*/})" >>"$work/${sum%% *}.of"
	done
}

# A line for each package: its module, and where both are.
while [ $# -gt 0 ]; do
	go list -C "$1" -deps -f '{{with .Module}}{{if not .Main}}{{.Path}} {{.Version}} {{.Dir}}{{end}}{{end}} {{.Dir}}' "$2"
	shift 2
done | sort -u | grep -v '^ ' >"$work/packages"

go=$(go env GOROOT)
take "Go $(go env GOVERSION | cut -d ' ' -f 1)" "$go"
# Each directory from the package's up to its module's.
while read -r path version root dir; do
	while :; do
		echo "$path$([ "$dir" = "$root" ] || echo "${dir#"$root"}") $version $dir"
		[ "$dir" != "$root" ] || break
		dir=${dir%/*}
	done
done <"$work/packages" | sort -u >"$work/directories"
while read -r path version dir; do take "$path $version" "$dir"; done <"$work/directories"

for module in "Go " $(cut -d ' ' -f 1 "$work/packages" | sort -u); do
	grep -qsE "^$module.* \((LICEN|COPYING)" "$work"/*.of || { echo "licenses.sh: no license is found of $module" >&2; exit 1; }
done
echo "MasCRI's programs hold code of others, under these licenses."
for of in "$work"/*.of; do printf '%s\t%s\n' "$(head -n 1 "$of")" "$of"; done | sort | while IFS=$'\t' read -r _ of; do
	printf '\n%s\n\n' "$(printf '=%.0s' {1..100})"
	cat "$of"
	echo
	cat "${of%.of}.text"
done
