#!/bin/bash
# all.sh [PART...] runs every test, or these parts of it, goes on after a failure, and
# ends with what came of each part. "make test" builds first what it needs. The part
# "kubelet", for which "make test-kubelet" builds a kubelet, runs only where it is named.
set -uo pipefail
cd "$(dirname "$(dirname "$(realpath "$0")")")" || exit 1
mkdir -p out
results=()
rc=0

# part NAME COMMAND... runs one part and notes how it ended.
parts=" $* "
part() {
	[[ $parts = "  " || $parts = *" $1 "* ]] || return 0
	local name=$1 began=$SECONDS log=out/$1.log ok=ok counted
	shift
	echo
	echo "=== $name"
	"$@" 2>&1 | tee "$log" || { ok=FAIL; rc=1; }
	counted=$(sed -n "s/^$name: //p" "$log" | tail -n 1)
	results+=("$(printf '%-5s %-7s %4s s  %s' $ok "$name" $((SECONDS - began)) "${counted:-see $log}")")
}

# go_test NAME ARGUMENTS... is go test with all its results counted. Nothing is
# taken from the cache: engines and plugins are no input that go knows of.
go_test() {
	local name=$1
	shift
	go test -json -count=1 "$@" | go run ./test/report "$name"
}

lint() { go vet ./... && bin/golangci-lint run && echo "lint: no findings"; }

# critest shows what its specs say as they go.
critest() {
	go test -v -count=1 -timeout 40m -run '^TestCritest$' ${without_28[@]+"${without_28[@]}"} ./test/e2e
}

demo() { test/private.sh test/demo.sh && echo "demo: two pods ran, talked and were removed"; }

# docs shows each step as it goes; what it counts is the last line.
docs() { test/private.sh test/docs.sh; }

# kubelet takes five minutes where nothing else runs.
kubelet() {
	[ ${#without_28[@]} = 0 ] || { echo "kubelet: left out, as it needs engine 28"; return 0; }
	go test -v -count=1 -timeout 25m -skip '^TestChurn$' ./test/kubelet
}

# engine28 fetches the later engine once; where that can't be, its tests are skipped.
without_28=() e2e_skip='^TestCritest$'
engine28() {
	[ ! -x bin/engine28/usr/sbin/dockerd ] || return 0
	test/fetch-engine.sh bin/engine28 && return
	if [ $? = 3 ]; then
		results+=("SKIP  engine 28: every test on it, as this is not Debian")
		without_28=(-skip '/^engine_28$') e2e_skip+='|/^engine_28$'
	else
		results+=("FAIL  fetching engine 28")
		rc=1
	fi
}

began=$SECONDS
engine28
mapfile -t unit < <(go list ./... | grep -Ev '/test/(e2e|kubelet)')
part lint lint
part unit go_test unit -race -timeout 30m ${without_28[@]+"${without_28[@]}"} "${unit[@]}"
part fuzz test/fuzz.sh
part e2e go_test e2e -timeout 45m -skip "$e2e_skip" ./test/e2e/...
part critest critest
part demo demo
part docs docs
[[ $parts != *" kubelet "* ]] || part kubelet kubelet

[ ${#results[@]} -gt 0 ] || { echo "all.sh: there is no part$parts" >&2; exit 2; }
echo
echo "=== ${*:-all tests}, $((SECONDS - began)) s"
printf '%s\n' "${results[@]}"
exit $rc
