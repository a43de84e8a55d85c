#!/bin/bash
# demo.sh [clean]
#
# Two pods on the real Docker Engine of this machine, each with its own IP by CNI,
# connected in both directions; then everything that was started or written is
# removed again. It starts Docker where none runs, and writes the example CNI config
# only where there is none.
#
# KEEP=1 leaves all running; "demo.sh clean" removes it later. POD_CGROUP_PARENT is
# given to the pods as the kubelet would.
set -Eeuo pipefail
root=$(dirname "$(dirname "$(realpath "$0")")")
work=/run/mascri-demo # what this demo started and wrote is noted here, for the cleaning up
socket=$work/mascri.sock
conf_dir=/etc/cni/net.d
example=$conf_dir/10-bridge.conf
ipam=/var/lib/cni/networks/bridge
logs=/var/log/pods/default_web_2c9a6a1e-6a0c-4f2e-9c52-0c1f4a3f7b11 # as examples/sandbox.json has it
steps=9
step=0
doing="starting"

step() {
	step=$((step + 1))
	doing=$*
	echo "[$step/$steps] $doing"
}
say() { echo "      $*"; }
fail() { echo "error: $*" >&2; false; }

failed() {
	[ $BASHPID = $$ ] || exit 1 # the main shell will tell
	trap - ERR
	echo >&2
	echo "error: the demo failed at step $step, \"$doing\"" >&2
	local log=mascri
	[ -s "$work/mascri.log" ] || log=dockerd
	[ ! -s "$work/$log.log" ] || { echo "--- last lines of $log's log:" >&2; tail -n 15 "$work/$log.log" >&2; }
	if [ -n "${KEEP:-}" ]; then
		echo "left as it is; \"test/demo.sh clean\" removes it" >&2
	else
		clean || echo "not all could be removed; \"test/demo.sh clean\" tries again" >&2
	fi
	exit 1
}

# crictl's warnings are noise here, such as that a pod names no cgroup parent.
crictl() { "$root/bin/crictl" --config "$work/crictl.yaml" "$@" 2>"$work/crictl.log" || { cat "$work/crictl.log" >&2; false; }; }

# wait_for SECONDS COMMAND... tries until it succeeds.
wait_for() {
	local end=$((SECONDS + $1))
	shift
	until "$@" >/dev/null 2>&1; do
		[ $SECONDS -lt $end ] || return 1
		sleep 0.1
	done
}

# background NAME COMMAND... starts a daemon of this demo's own.
background() {
	local name=$1
	shift
	setsid "$@" >"$work/$name.log" 2>&1 </dev/null &
	echo $! >"$work/$name.pid"
}

# stop NAME ends it and waits until it is gone.
stop() {
	local pid
	pid=$(cat "$work/$1.pid" 2>/dev/null) || return 0
	kill "$pid" 2>/dev/null && wait_for 30 bash -c "! kill -0 $pid" || true
	rm -f "$work/$1.pid"
}

start_docker() {
	step "Docker Engine"
	if docker version >/dev/null 2>&1; then
		say "$(docker version -f '{{.Server.Version}}') is running"
		return
	fi
	if [ -d /run/systemd/system ]; then
		say "starting it: systemctl start docker"
		systemctl start docker
		touch "$work/docker.systemd"
	else
		say "starting it: dockerd (there is no systemd)"
		background dockerd dockerd
	fi
	wait_for 60 docker version || fail "Docker does not answer after 60 s: $(docker version 2>&1 | tail -n 1)"
	say "$(docker version -f '{{.Server.Version}}') is running now"
}

choose_config() {
	step "CNI config in $conf_dir"
	local file
	for file in "$conf_dir"/*.{conf,conflist,json}; do
		[ -e "$file" ] || continue
		say "yours is used: $file"
		return
	done
	[ -d "$conf_dir" ] || touch "$work/own.conf_dir"
	mkdir -p "$conf_dir"
	ip link show cni0 >/dev/null 2>&1 || touch "$work/own.bridge"
	[ -e "$ipam" ] || touch "$work/own.ipam"
	touch "$work/own.config"
	cp "$root/examples/10-bridge.conf" "$example"
	say "there was none; the example is now $example"
}

start_mascri() {
	step "MasCRI"
	docker images -q 'localhost/mascri/sandbox' >"$work/images"
	# Without MasCRI's own default network: this is about the config in the directory.
	background mascri "$root/bin/mascri" serve --socket "$socket" --state-dir "$work/state" ${DOCKER_HOST:+--engine-host "$DOCKER_HOST"} \
		--default-network=false --cni-conf-dir "$conf_dir" --cni-bin-dir /opt/cni/bin --cni-bin-dir /usr/lib/cni --cni-bin-dir /usr/libexec/cni --cni-bin-dir "$root/bin/cni"
	printf '%s\n' "runtime-endpoint: unix://$socket" "image-endpoint: unix://$socket" "timeout: 120" >"$work/crictl.yaml"
	wait_for 30 crictl version || fail "MasCRI does not answer on $socket"
	say "$(crictl version | sed -nE 's/^Runtime(Name|Version): *//p' | xargs) serves on $socket"
}

# config FILE prints a sandbox config, put under POD_CGROUP_PARENT where that is set.
config() {
	local parent="\"cgroup_parent\": \"${POD_CGROUP_PARENT:-}\""
	if [ -z "${POD_CGROUP_PARENT:-}" ]; then
		cat "$1"
	elif grep -q '"linux": {' "$1"; then
		sed "s#\"linux\": {#&$parent,#" "$1"
	else
		sed "1s#{#{\"linux\": {$parent},#" "$1"
	fi
}

# run_pod FILE prints the id of a new sandbox.
run_pod() {
	local id
	id=$(crictl runp <(config "$1"))
	echo "$id" >>"$work/pods"
	echo "$id"
}

inspect() { crictl inspectp -o go-template --template "{{.$2}}" "$1"; }

run_pods() {
	step "Two pods: crictl runp"
	web=$(run_pod "$root/examples/sandbox.json")
	say "web     ${web:0:12}  (examples/sandbox.json)"
	client=$(run_pod "$root/examples/sandbox-minimal.json")
	say "client  ${client:0:12}  (examples/sandbox-minimal.json)"
	web_ip=$(inspect "$web" status.network.ip)
	client_ip=$(inspect "$client" status.network.ip)
	web_netns=$(basename "$(inspect "$web" info.netnsPath)")
	client_netns=$(basename "$(inspect "$client" info.netnsPath)")
	printf '%s\n' "$web_netns" "$client_netns" >"$work/netns"
}

show() {
	step "Their IPs: crictl inspectp"
	say "web     $web_ip  netns /run/netns/$web_netns"
	say "client  $client_ip  netns /run/netns/$client_netns"
	[ -n "$web_ip" ] && [ -n "$client_ip" ] && [ "$web_ip" != "$client_ip" ] || fail "each pod needs an IP of its own"

	step "The same from Docker: docker exec ${web:0:12} ip addr"
	local out
	out=$(docker exec "$web" ip addr)
	sed 's/^/      /' <<<"$out"
	grep -qF " $web_ip/" <<<"$out" || fail "$web_ip is not there"
	if [ -n "${POD_CGROUP_PARENT:-}" ]; then
		out=$(cat "/proc/$(inspect "$web" info.pid)/cgroup")
		say "and its cgroup: $(tail -n 1 <<<"$out")"
		grep -qF "/$(basename "$POD_CGROUP_PARENT")/" <<<"$out" || fail "the pod is not under $POD_CGROUP_PARENT"
	fi
}

# talk FROM-NETNS TO-NETNS TO-IP TEXT serves TEXT once in one pod's network namespace
# and fetches it from the other's.
talk() {
	local server got end=$((SECONDS + 20))
	ip netns exec "$2" timeout 20 busybox nc -l -p 8080 <<<"$4" &
	server=$!
	until got=$(ip netns exec "$1" timeout 5 busybox nc -w 3 "$3" 8080 </dev/null 2>/dev/null) && [ -n "$got" ]; do
		[ $SECONDS -lt $end ] || break
		sleep 0.1
	done
	kill $server 2>/dev/null || true
	wait $server 2>/dev/null || true
	[ "$got" = "$4" ] || fail "no connection to $3, port 8080"
}

connect() {
	step "TCP from pod to pod, both ways"
	talk "$client_netns" "$web_netns" "$web_ip" "hello from web"
	say "client -> web     $client_ip -> $web_ip:8080  \"hello from web\""
	talk "$web_netns" "$client_netns" "$client_ip" "hello from client"
	say "web    -> client  $web_ip -> $client_ip:8080  \"hello from client\""
}

# run_container POD FILE SANDBOX-FILE prints the id of a new container that runs.
run_container() {
	local id
	id=$(crictl create "$1" "$2" <(config "$3"))
	crictl start "$id" >/dev/null
	echo "$id"
}

containers() {
	step "A container in each, of an image just built; no registry has it"
	local hello server got busybox
	busybox=$(realpath "$(command -v busybox)")
	docker images -q --no-trunc hello:1 >"$work/hello" # yours, if there is one
	[ -e "$logs/hello" ] || touch "$work/own.logs"
	tar -c -C "$(dirname "$busybox")" --transform 's/.*busybox.*/busybox/' "$(basename "$busybox")" -C "$root/examples/hello" Dockerfile |
		DOCKER_BUILDKIT=0 docker build --quiet --tag hello:1 - >/dev/null 2>"$work/build.log" || { cat "$work/build.log" >&2; false; }
	say "docker build --tag hello:1   $(docker images -q hello:1)"
	server=$(run_container "$web" "$root/examples/container.json" "$root/examples/sandbox.json")
	hello=$(run_container "$client" "$root/examples/container.json" "$root/examples/sandbox-minimal.json")
	wait_for 20 bash -c "'$root/bin/crictl' --config '$work/crictl.yaml' logs $server 2>/dev/null | grep -q serving" || fail "the web server says nothing: $(crictl logs "$server")"
	say "crictl logs ${server:0:13}         \"$(crictl logs "$server")\""
	got=$(crictl exec "$hello" sh -c "wget -qO- http://$web_ip:8080/")
	say "crictl exec ${hello:0:13} wget    http://$web_ip:8080/  \"$got\""
	[ "$got" = "hello from web" ] || fail "the container in one pod does not reach that in the other"
}

keep() {
	step "All is left running"
	cat <<-TEXT

		      Go on with:
		        $root/bin/crictl --config $work/crictl.yaml pods
		        $root/bin/crictl --config $work/crictl.yaml ps
		        docker exec ${web:0:12} ip addr
		      MasCRI's log: $work/mascri.log
		      Remove all of it: $root/test/demo.sh clean
	TEXT
}

# remove_pods removes the pods and tells whether anything of them is left.
remove_pods() {
	local id ip netns left=()
	for id in $(cat "$work/pods" 2>/dev/null); do
		if [ -n "$(crictl pods --quiet --id "$id")" ]; then # else somebody removed it meanwhile
			crictl stopp "$id" >/dev/null
			crictl rmp "$id" >/dev/null
		fi
		[ -z "$(docker ps -aq --no-trunc --filter "id=$id")" ] || left+=("container $id")
		[ ! -e "$work/state/attachments/$id.json" ] || left+=("record of $id")
	done
	for netns in $(cat "$work/netns" 2>/dev/null); do [ ! -e "/run/netns/$netns" ] || left+=("/run/netns/$netns"); done
	for ip in "${web_ip:-}" "${client_ip:-}"; do
		[ -z "$ip" ] || [ -z "$(find /var/lib/cni/networks -name "$ip" 2>/dev/null)" ] || left+=("reservation of $ip")
	done
	[ ${#left[@]} = 0 ] || fail "left behind: ${left[*]}"
	rm -f "$work/pods" "$work/netns"
}

# remove_image removes the demo's image, and gives its name back to what had it before.
remove_image() {
	local before now
	[ -e "$work/hello" ] || return 0
	before=$(cat "$work/hello") now=$(docker images -q --no-trunc hello:1)
	[ -n "$now" ] && [ "$now" != "$before" ] || return 0
	docker rmi hello:1 >/dev/null
	[ -z "$before" ] || docker tag "$before" hello:1
}

# remove_rules removes the forwarding rules of this demo's daemon.
remove_rules() {
	local instance tables
	instance=$(head -c 8 "$work/state/instance" 2>/dev/null) || return 0
	for tables in iptables ip6tables; do
		$tables -D DOCKER-USER -j "MASCRI-$instance" && $tables -F "MASCRI-$instance" && $tables -X "MASCRI-$instance" || true
	done 2>/dev/null
}

clean() {
	[ -d "$work" ] || return 0
	[ ! -S "$socket" ] || remove_pods || return 1 # its records are what takes them off the network
	stop mascri
	remove_rules
	if [ -e "$work/images" ]; then
		comm -13 <(sort "$work/images") <(docker images -q 'localhost/mascri/sandbox' | sort) | xargs -r docker rmi >/dev/null
	fi
	remove_image
	[ ! -e "$work/own.logs" ] || rm -rf "$logs"
	[ ! -e "$work/own.config" ] || rm -f "$example"
	[ ! -e "$work/own.conf_dir" ] || rmdir "$conf_dir" "$(dirname "$conf_dir")" 2>/dev/null || true
	[ ! -e "$work/own.bridge" ] || ip link delete cni0 2>/dev/null || true
	[ ! -e "$work/own.ipam" ] || rm -rf "$ipam"
	[ ! -e "$work/docker.systemd" ] || systemctl stop docker.socket docker
	stop dockerd
	rm -rf "$work"
}

[ "$(id -u)" = 0 ] || { echo "error: the demo needs root: it runs pods and starts Docker. Try: sudo env PATH=\"\$PATH\" make demo" >&2; exit 1; }
if [ "${1:-}" = clean ]; then clean; exit; fi
[ ! -d "$work" ] || { echo "an earlier demo is still there; removing it"; clean; }
[ -x "$root/bin/mascri" ] && [ -x "$root/bin/crictl" ] || { echo "error: there is no bin/mascri or bin/crictl: run make build" >&2; exit 1; }
trap failed ERR
trap 'doing="$doing, interrupted"; failed' INT TERM
mkdir -p "$work"
start_docker
choose_config
start_mascri
run_pods
show
connect
containers
if [ -n "${KEEP:-}" ]; then keep; exit; fi
step "Removing all of it"
clean
say "nothing is left"
