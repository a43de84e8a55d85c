#!/bin/bash
# fuzz.sh [TIME] lets each fuzz target look for new inputs for a while, 60s unless told, two
# targets at once with one worker each. What it finds goes into the package's testdata/fuzz, to be
# mended and committed: ordinary tests run it from then on.
set -uo pipefail
cd "$(dirname "$(dirname "$(realpath "$0")")")" || exit 1
export FUZZ_TIME=${1:-60s}

# one PACKAGE TARGET prints what came of it in one line, and all of it after a failure.
one() {
	local out
	# A run is over by its time; go calls it a failure where that comes in the middle of an input.
	if out=$(GOMAXPROCS=1 go test -run '^$' -fuzz "^$2\$" -fuzztime "$FUZZ_TIME" -parallel 1 "$1" 2>&1); then
		echo "ok   $1 $2: $(grep -o 'execs: [0-9]*' <<< "$out" | tail -n 1)"
	elif ! grep -q 'Failing input written' <<< "$out" && grep -q 'context deadline exceeded' <<< "$out"; then
		echo "ok   $1 $2: $(grep -o 'execs: [0-9]*' <<< "$out" | tail -n 1)"
	else
		printf 'FAIL %s %s\n%s\n' "$1" "$2" "$out"
		return 1
	fi
}
export -f one

mapfile -t targets < <(grep -rl --include='*_test.go' '^func Fuzz' cmd internal test | while read -r file; do
	sed -n "s|^func \\(Fuzz[A-Za-z0-9]*\\)(.*|./${file%/*} \\1|p" "$file"
done | sort)
printf '%s\n' "${targets[@]}" | xargs -P 2 -L 1 bash -c 'one "$@"' one || { echo "fuzz: a target failed"; exit 1; }
echo "fuzz: ${#targets[@]} targets, $FUZZ_TIME each: nothing found"
