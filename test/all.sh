#!/bin/bash
# all.sh runs every test, goes on after a failure, and ends with what came of each
# part. "make test" builds first what it needs.
set -uo pipefail
cd "$(dirname "$(dirname "$(realpath "$0")")")" || exit 1
mkdir -p out
results=()
rc=0

# part NAME COMMAND... runs one part and notes how it ended.
part() {
	local name=$1 began=$SECONDS
	shift
	echo
	echo "=== $name: $*"
	if "$@" 2>&1 | tee "out/$name.log"; then
		results+=("ok    $name, $((SECONDS - began)) s: $(tail -n 1 "out/$name.log")")
	else
		results+=("FAIL  $name, $((SECONDS - began)) s, see out/$name.log: $(tail -n 1 "out/$name.log")")
		rc=1
	fi
}

# go_test NAME ARGUMENTS... is go test with all its results counted. Nothing is
# taken from the cache: engines and plugins are no input that go knows of.
go_test() {
	local name=$1
	shift
	go test -json -count=1 "$@" | go run ./test/report "$name"
}

lint() { go vet ./... && bin/golangci-lint run && echo "no findings"; }

# engine28 fetches the later engine once; where that can't be, its tests are skipped.
without_28=()
engine28() {
	[ ! -x bin/engine28/usr/sbin/dockerd ] || return 0
	test/fetch-engine.sh bin/engine28 && return
	if [ $? = 3 ]; then
		results+=("SKIP  every test on engine 28: this is not Debian")
		without_28=(-skip '/^engine_28$')
	else
		results+=("FAIL  fetching engine 28")
		rc=1
	fi
}

began=$SECONDS
engine28
mapfile -t unit < <(go list ./... | grep -v /test/e2e)
part lint lint
part unit go_test unit -race -timeout 15m "${unit[@]}"
part e2e go_test e2e -timeout 20m ${without_28[@]+"${without_28[@]}"} ./test/e2e/...
part demo test/private.sh test/demo.sh

echo
echo "=== all tests, $((SECONDS - began)) s"
printf '%s\n' "${results[@]}"
exit $rc
