#!/bin/bash
# workloads.sh shows on this machine's cgroups what a container's limits come to, and runs
# the specs of critest that need no registry. It is for the VM, whose cgroups are v2 and
# managed by systemd: the other tests' machine may have v1.
set -Eeuo pipefail
root=$(dirname "$(dirname "$(realpath "$0")")")
work=$(mktemp -d)
image=registry.k8s.io/e2e-test-images/busybox:1.29-2 # critest's name
slice=/kubepods.slice/kubepods-burstable.slice

. "$root/test/pods.sh"

# wait_ended CONTAINER waits until it has.
wait_ended() {
	local end=$((SECONDS + 120))
	until [ "$(status "$1" status.state)" = CONTAINER_EXITED ]; do [ $SECONDS -lt $end ]; sleep 0.5; done
}

# run NAME COMMAND RESOURCES prints the id of a new container that runs.
run() {
	local id
	cat >"$work/$1.json" <<-JSON
		{"metadata": {"name": "$1"}, "image": {"image": "$image"}, "command": ["sh", "-c", "$2"], "log_path": "$1.log",
		 "linux": {"resources": {$3}, "security_context": {"namespace_options": {"pid": 1}}}}
	JSON
	id=$(crictl create "$pod" "$work/$1.json" "$work/pod.json")
	crictl start "$id" >/dev/null
	echo "$id"
}

echo "[1/5] MasCRI on cgroup v$(docker info -f '{{.CgroupVersion}}'), driver $(docker info -f '{{.CgroupDriver}}')"
serve
echo "{\"metadata\": {\"name\": \"limits\", \"namespace\": \"default\", \"uid\": \"u1\"}, \"log_directory\": \"$work/logs\", \"linux\": {\"cgroup_parent\": \"$slice\"}}" >"$work/pod.json"
pod=$(crictl runp "$work/pod.json")

echo "[2/5] limits as the kubelet sends them"
web=$(run web "sleep 1000" '"cpu_period": 100000, "cpu_quota": 50000, "cpu_shares": 512, "memory_limit_in_bytes": 67108864, "memory_swap_limit_in_bytes": 67108864, "oom_score_adj": 900, "unified": {"memory.oom.group": "1", "memory.high": "60000000"}, "hugepage_limits": [{"page_size": "2MB", "limit": 0}]')
grep -qF "$slice/" "/proc/$(status "$web" info.pid)/cgroup"
same memory.max "$(file "$web" memory.max)" 67108864
same memory.swap.max "$(file "$web" memory.swap.max 2>/dev/null || echo 0)" 0
same memory.oom.group "$(file "$web" memory.oom.group)" 1
same memory.high "$(file "$web" memory.high)" 59998208 # whole pages
same cpu.max "$(file "$web" cpu.max)" "50000 100000"
same hugetlb.2MB.max "$(file "$web" hugetlb.2MB.max 2>/dev/null || echo 0)" 0
same oom_score_adj "$(cat "/proc/$(status "$web" info.pid)/oom_score_adj")" 900

echo "[3/5] changed in place"
crictl update --memory 134217728 --cpu-quota 20000 "$web" >/dev/null
same memory.max "$(file "$web" memory.max)" 134217728
same cpu.max "$(file "$web" cpu.max)" "20000 100000"
same "status, memory" "$(status "$web" status.resources.linux.memoryLimitInBytes)" 134217728
crictl stats "$web" | tail -n 1 | sed 's/^/      /'

echo "[4/5] out of memory"
# The kernel is told of memory.oom.group right after the start.
hog=$(run hog "sleep 5; dd if=/dev/zero of=/dev/null bs=40M" '"memory_limit_in_bytes": 15728640, "memory_swap_limit_in_bytes": 15728640, "unified": {"memory.oom.group": "1"}')
wait_ended "$hog"
same reason "$(status "$hog" status.reason)" OOMKilled
same "exit code" "$(status "$hog" status.exitCode)" 137
# With systemd, Docker misses one in ten of those that end at once.
hogs=()
for i in 1 2 3 4 5 6; do hogs+=("$(run "hog$i" "exec dd if=/dev/zero of=/dev/null bs=40M" '"memory_limit_in_bytes": 15728640, "memory_swap_limit_in_bytes": 15728640')"); done
reasons=
for hog in "${hogs[@]}"; do wait_ended "$hog"; reasons+=" $(status "$hog" status.reason)"; done
same "of six more" "$reasons" "$(printf ' OOMKilled%.0s' "${hogs[@]}")"
docker inspect -f '{{.State.OOMKilled}}' "${hogs[@]}" | sort | uniq -c | sed 's/^/      Docker says/'
crictl rmp -f "$pod" >/dev/null
[ -z "$(docker ps -aq)" ]

# Without the spec that measures a second, which an emulated machine is late for.
echo "[5/5] critest: what needs no registry"
"$root/bin/critest" --runtime-endpoint "unix://$socket" --image-endpoint "unix://$socket" --ginkgo.no-color \
	--ginkgo.focus 'Container OOM|basic operations on container|PodSandbox|Idempotence|Container Mount|capabilit' \
	--ginkgo.skip 'RemoveImage|execSync with timeout' >"$work/critest.log" 2>&1 || { grep -E '^\s*\[FAIL\]|FAILED' "$work/critest.log" >&2; tail -n 40 "$work/critest.log" >&2; false; }
grep -E '^(Ran|SUCCESS|FAIL)' "$work/critest.log"
