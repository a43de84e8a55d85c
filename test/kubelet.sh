#!/bin/bash
# kubelet.sh runs a kubelet with a few static pods on this machine's cgroups. It is for the
# VM, whose cgroups are v2 and managed by systemd; test/kubelet shows more, on cgroup v1.
set -Eeuo pipefail
root=$(dirname "$(dirname "$(realpath "$0")")")
work=$(mktemp -d)
image=localhost/busybox:1
. "$root/test/pods.sh"

# await COMMAND... waits until it succeeds.
await() {
	local end=$((SECONDS + 300))
	until "$@" >"$work/await.out" 2>&1; do
		[ $SECONDS -lt $end ] || { echo "error: not so after 300 s: $*" >&2; tail -c 2000 "$work/await.out" >&2; return 1; }
		sleep 1
	done
}

ask() { busybox wget -q -O - "http://127.0.0.1:10255/$1"; }
# told COUNT PATTERN looks for as many matches in what the kubelet tells of its pods.
told() { [ "$(ask pods | grep -oE "$2" | wc -l)" = "$1" ]; }
pod() { crictl pods --state ready --name "$1-node" -q; }
container() { crictl ps --pod "$(pod "$1")" -q; }
# kubelet_exec POD FLAG COMMAND... goes by the kubelet's API.
kubelet_exec() {
	local pod=$1 flag=$2 query="output=1&error=1" word
	shift 2
	for word in "$@"; do query+="&command=$word"; done
	# shellcheck disable=SC2086 # there may be no flag
	"$root/bin/kubelet-stream" $flag "https://127.0.0.1:10250/exec/default/$pod-node/main?$query"
}

echo "[1/5] a kubelet that asks MasCRI for the cgroup driver"
mkdir -p "$work"/{pods,net.d} /var/lib/kubelet
cp "$root/examples/10-bridge.conf" "$work/net.d/"
serve --cni-conf-dir "$work/net.d"
ip addr add 192.0.2.10/32 dev lo
cat >"$work/kubelet.yaml" <<YAML
apiVersion: kubelet.config.k8s.io/v1beta1
kind: KubeletConfiguration
containerRuntimeEndpoint: unix://$socket
staticPodPath: $work/pods
address: 127.0.0.1
readOnlyPort: 10255
authentication: {anonymous: {enabled: true}, webhook: {enabled: false}}
authorization: {mode: AlwaysAllow}
registerNode: false
makeIPTablesUtilChains: false
enableControllerAttachDetach: false
volumePluginDir: $work/volume-plugins
evictionHard: {memory.available: 1Mi, nodefs.available: 0%, imagefs.available: 0%}
YAML
"$root/bin/kubelet" --config "$work/kubelet.yaml" --hostname-override node --node-ip 192.0.2.10 >"$work/kubelet.log" 2>&1 &
await ask pods
same "cgroup driver" "$(docker info -f '{{.CgroupDriver}}, cgroup v{{.CgroupVersion}}')" "systemd, cgroup v2"

echo "[2/5] static pods"
# add NAME MANIFEST
add() { printf 'apiVersion: v1\nkind: Pod\nmetadata: {name: %s, namespace: default}\nspec:\n%s\n' "$1" "$2" >"$work/pods/.$1" && mv "$work/pods/.$1" "$work/pods/$1.yaml"; }
add guaranteed "
  terminationGracePeriodSeconds: 1
  containers:
  - name: main
    image: $image
    command: [sh, -c, 'mkdir /www; echo here > /www/f; httpd -p 8080 -h /www; trap exit TERM; while true; do echo line; sleep 1; done']
    resources: {limits: {cpu: 500m, memory: 64Mi}}
    startupProbe: {tcpSocket: {port: 8080}, periodSeconds: 2, timeoutSeconds: 20, failureThreshold: 60}
    readinessProbe: {httpGet: {path: /f, port: 8080}, periodSeconds: 2, timeoutSeconds: 20}
    livenessProbe: {exec: {command: [cat, /www/f]}, periodSeconds: 5, timeoutSeconds: 60}"
add burstable "
  terminationGracePeriodSeconds: 1
  volumes: [{name: memory, emptyDir: {medium: Memory}}]
  containers:
  - name: main
    image: $image
    command: [sh, -c, 'echo kept > /memory/f; trap exit TERM; sleep inf & wait']
    resources: {requests: {cpu: 100m, memory: 32Mi}, limits: {memory: 48Mi}}
    volumeMounts: [{name: memory, mountPath: /memory}]"
add once "
  restartPolicy: Never
  initContainers: [{name: first, image: $image, command: [sh, -c, 'echo first']}]
  containers: [{name: main, image: $image, command: [sh, -c, 'echo done']}]"
await told 2 '"type":"Ready"[^}]*"status":"True"'
await told 1 '"phase":"Succeeded"'
for name in guaranteed burstable; do
	ip=$(crictl inspectp -o go-template --template '{{.status.network.ip}}' "$(pod $name)")
	[[ $ip = 10.88.* ]]
	echo "      $name is ready at $ip"
done
web=$(container guaranteed)
same page "$(busybox wget -q -O - "http://$(crictl inspectp -o go-template --template '{{.status.network.ip}}' "$(pod guaranteed)"):8080/f")" here

echo "[3/5] limits in slices"
uid=$(status "$web" 'status.labels' | sed -n 's/.*io.kubernetes.pod.uid:\([^] ]*\).*/\1/p')
slice=/kubepods.slice/kubepods-pod${uid//-/_}.slice
[[ $(cgroup "$web") = $slice/* ]]
echo "      guaranteed is in $slice"
same memory.max "$(file "$web" memory.max)" 67108864
same cpu.max "$(file "$web" cpu.max)" "50000 100000"
same "memory.max of the pod" "$(cat /sys/fs/cgroup$slice/memory.max)" 67108864
other=$(container burstable)
[[ $(cgroup "$other") = /kubepods.slice/kubepods-burstable.slice/* ]]
same "memory.max, burstable" "$(file "$other" memory.max)" 50331648
counted() { ask stats/summary | grep '"name": *"guaranteed-node"' >/dev/null; }
await counted

echo "[4/5] exec, and a container that is killed"
same "exec by SPDY" "$(kubelet_exec guaranteed "" cat /www/f)" here
same "exec by WebSocket" "$(kubelet_exec burstable -websocket cat /memory/f)" kept
kill -9 "$(status "$web" info.pid)"
restarted() { [ "$(container guaranteed)" != "$web" ] && told 2 '"type":"Ready"[^}]*"status":"True"'; }
await restarted
same attempt "$(status "$(container guaranteed)" status.metadata.attempt)" 1

echo "[5/5] all removed"
rm "$work"/pods/*.yaml
gone() { [ -z "$(docker ps -aq; find /sys/fs/cgroup/kubepods.slice -name '*-pod*.slice'; find /run/netns /var/lib/kubelet/pods -mindepth 1; find /var/lib/cni/networks -name '10.88.*')" ]; }
await gone
echo "      no container, slice, network namespace, volume or IP is left"
