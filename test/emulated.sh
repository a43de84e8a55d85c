#!/bin/bash
# emulated.sh EMULATOR TREE runs the programs of an unpacked archive for another architecture
# by qemu's emulator of processes, the daemon on a real engine of this machine's. It is for
# private.sh. Nothing is registered with the kernel, so that what the emulated start is not:
# there are no pods.
set -Eeuo pipefail
root=$(dirname "$(dirname "$(realpath "$0")")")
emulator=$1 tree=$2
trap 'echo "error: line $LINENO failed: $BASH_COMMAND" >&2; tail -n 15 /run/{mascri,dockerd}.log >&2' ERR
say() { echo "      $*"; }
emulated() { "$emulator" "$@"; }
# await COMMAND... tries for two minutes.
await() { for _ in $(seq 600); do ! "$@" >/dev/null 2>&1 || return 0; sleep 0.2; done; "$@"; }

say "mascri version --json: $(emulated "$tree/mascri" version --json | tr -d ' \n')"
emulated "$tree/mascri" config check --config "$tree/config.toml" >/dev/null
emulated "$tree/mascri" doctor --help >/dev/null
# What the program of this machine wrote into the archive, the other says, too.
for shell in bash fish; do emulated "$tree/mascri" completion $shell | diff - "$tree/completions/mascri.$shell"; done
emulated "$tree/mascri" config default | sed 's/^\([a-z]\)/#\1/' | diff - "$tree/config.toml"
for plugin in "$tree"/cni/*; do { emulated "$plugin" 2>&1 </dev/null || true; } | grep "^CNI .* v[0-9]" >/dev/null; done
say "config, doctor, completions and $(ls "$tree/cni" | wc -l) CNI plugins run"

dockerd >/run/dockerd.log 2>&1 &
engine=$!
await docker version
"$emulator" "$tree/mascri" serve --default-network=false >/run/mascri.log 2>&1 &
daemon=$!
printf '%s\n' 'runtime-endpoint: unix:///run/mascri/mascri.sock' 'timeout: 60' >/run/crictl.yaml
crictl() { "$root/bin/crictl" --config /run/crictl.yaml "$@"; }
ready() { crictl info -o go-template --template '{{range .status.conditions}}{{.type}}={{.status}} {{end}}' | grep 'RuntimeReady=true'; }
await ready
say "crictl version: $(crictl version | sed -nE 's/^Runtime(Name|Version): *//p' | xargs); RuntimeReady on Docker $(docker version -f '{{.Server.Version}}')"

# The sandbox image as the program brings it to the engine, whose kernel can't run it.
mkdir -p /run/sandbox
echo '{"metadata": {"name": "other", "namespace": "default", "uid": "1"}, "linux": {"security_context": {"namespace_options": {"network": 2}}}}' >/run/pod.json
crictl runp /run/pod.json >/run/pod.log 2>&1 || true # some engines tell, others have a pod that ended
crictl pods -q | xargs --no-run-if-empty "$root/bin/crictl" --config /run/crictl.yaml rmp --force >/dev/null
image=$(docker images -q localhost/mascri/sandbox)
docker save "$image" | tar -x -C /run/sandbox
for layer in $(find /run/sandbox -type f); do tar -x -f "$layer" -C /run/sandbox 2>/dev/null || true; done
"$emulator" /run/sandbox/pause &
pause=$!
emulated /run/sandbox/bin/ip addr | grep "inet 127.0.0.1/8" >/dev/null
kill -TERM $pause
wait $pause
say "the sandbox image, $(docker image inspect -f '{{.Architecture}}' "$image"): ip runs, pause ends by SIGTERM"
kill $daemon
wait $daemon || { echo "error: mascri ended with $?" >&2; false; }
kill $engine
wait $engine || true
