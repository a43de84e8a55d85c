#!/bin/bash
# install.sh installs MasCRI on this machine, uses it, reboots the machine, goes on after
# that, and takes MasCRI off again. It is for the VM, whose systemd runs it at each boot.
set -Eeuo pipefail
root=$(dirname "$(dirname "$(realpath "$0")")")
[ "$root" = /payload ] || { echo "install.sh: it is for the VM alone: test/vm.sh install" >&2; exit 2; }
notes=/var/tmp/install-test # outlives the reboot
installed=/usr/local/bin/mascri
trap 'echo "error: line $LINENO failed: $BASH_COMMAND" >&2; systemctl status --no-pager mascri.socket mascri.service docker.service | grep -vE "CGroup|─" >&2; journalctl --no-pager -u mascri -n 40 >&2' ERR

crictl() { "$root/bin/crictl" --timeout 120s "$@"; } # by /etc/crictl.yaml
same() { [ "$2" = "$3" ] || { echo "error: $1 is \"$2\", want \"$3\"" >&2; false; }; echo "      $1  $2"; }
pid() { docker inspect -f '{{.State.Pid}}' "$1"; }
main() { systemctl show -P MainPID mascri.service; }
ip() { crictl inspectp -o go-template --template '{{.status.network.ip}}' "$1"; }
state() { crictl inspectp -o go-template --template '{{.status.state}}' "$1"; }
until_true() { local end=$((SECONDS + 180)); until "$@" >/dev/null 2>&1; do [ $SECONDS -lt $end ] || { echo "error: not within 180 s: $*" >&2; return 1; }; sleep 1; done; }

# machine prints all that an installation could have changed: files with modes, links and
# contents, rules, interfaces, images.
machine() {
	{ find /etc /usr /opt /run/mascri /var/lib/mascri -printf '%p %M %u:%g %l\n' 2>/dev/null || true; } | sort # some are not there
	find /etc -type f -exec sha256sum {} + | sort -k 2
	iptables-save | grep -vE '^(#|:)'
	command ip -brief link | cut -d ' ' -f 1 | sort
	docker images -q --no-trunc
}

# alive POD checks that the pod is as it was at first.
alive() {
	same "$1: pid" "$(pid "$pod")" "$(cat "$notes/pid")"
	same "$1: IP" "$(ip "$pod")" "$(cat "$notes/ip")"
	same "$1: state" "$(state "$pod")" SANDBOX_READY
	nsenter --net="$(crictl inspectp -o go-template --template '{{.info.netnsPath}}' "$pod")" true
}

before_reboot() {
	mkdir -p "$notes" /etc/cni/net.d /opt/cni/bin
	cp "$root/examples/10-bridge.conf" /etc/cni/net.d/
	echo 'timeout: 60' >/etc/crictl.yaml
	printf '{\n\t"log-level": "warn",\n\t"max-concurrent-downloads": 2\n}\n' >/etc/docker/daemon.json
	machine >"$notes/before"

	echo "[1/9] mascri install --dry-run, which changes nothing"
	"$root/bin/mascri" install --dry-run >"$notes/plan"
	machine | diff "$notes/before" -

	echo "[2/9] mascri install"
	"$root/bin/mascri" install >"$notes/told"
	cat "$notes/told"
	head -n "$(wc -l <"$notes/plan")" "$notes/told" | diff "$notes/plan" -
	systemd-analyze verify --man=no mascri.service mascri.socket
	same live-restore "$(docker info -f '{{.LiveRestoreEnabled}}')" true
	grep -q '"log-level": "warn",' /etc/docker/daemon.json
	same "socket, at boot" "$(systemctl is-enabled mascri.socket)" enabled
	same "service, at boot" "$(systemctl is-enabled mascri.service)" enabled

	echo "[3/9] mascri install once more"
	"$installed" install --cni-plugins "$root/bin/cni" | sed -n 1p
	machine >"$notes/installed"

	echo "[4/9] the socket starts the daemon"
	systemctl stop mascri.service
	same service "$(systemctl is-active mascri.service || true)" inactive
	until_true crictl version # which itself waits for some seconds alone
	same service "$(systemctl is-active mascri.service)" active
	same OOM "$(cat "/proc/$(main)/oom_score_adj")" -999
	until_true status_is "0 pods, 0 containers"
	! journalctl --no-pager -u mascri -o cat | grep 'level=WARN.*operation not permitted'

	echo "[5/9] a pod"
	pod=$(crictl runp "$root/examples/sandbox.json")
	echo "$pod" >"$notes/pod"
	pid "$pod" >"$notes/pid"
	ip "$pod" >"$notes/ip"
	docker exec "$pod" ip addr show eth0 | grep inet
	command ip netns list | grep cni-

	echo "[6/9] the daemon restarts, is killed, hangs; the engine restarts"
	systemctl restart mascri.service
	alive "systemctl restart mascri"
	daemon=$(main)
	kill -KILL "$daemon"
	until_true changed
	alive "kill -9"
	daemon=$(main)
	kill -STOP "$daemon"
	until_true changed
	alive "watchdog"
	journalctl --no-pager -u mascri -o cat | grep -m 1 'Watchdog timeout'
	systemctl restart docker.service
	until_true docker info
	alive "systemctl restart docker"
	[ "$(systemctl show -P NRestarts mascri.service)" -ge 2 ] # more where the machine is too slow for the watchdog

	echo "[7/9] reboot"
	touch "$notes/rebooted"
	systemctl reboot
	sleep 600 # until systemd ends this
}

status_is() { [ "$(systemctl show -P StatusText mascri.service)" = "$1" ]; }
changed() { local now; now=$(main); [ "$now" != 0 ] && [ "$now" != "$daemon" ] && crictl version; }

after_reboot() {
	pod=$(cat "$notes/pod")
	echo "[8/9] after the reboot"
	until_true crictl version
	same service "$(systemctl is-active mascri.service)" active
	same "the pod" "$(state "$pod")" SANDBOX_NOTREADY
	same "the engine says" "$(docker inspect -f '{{.State.Running}}' "$pod")" false
	until_true no_address
	same "addresses taken" "$(find /var/lib/cni/networks -name '10.88.*' | wc -l)" 0
	same pins "$(find /run/netns -name 'cni-*' 2>/dev/null | wc -l)" 0
	crictl rmp "$pod"
	pod=$(crictl runp "$root/examples/sandbox.json")
	docker exec "$pod" ip addr show eth0 | grep inet

	echo "[9/9] mascri uninstall"
	! "$installed" uninstall || false
	crictl rmp --force "$pod"
	"$installed" uninstall --purge
	command ip link delete cni0 # the plugin's own
	machine | diff "$notes/before" -
	same "the user's crictl.yaml" "$(cat /etc/crictl.yaml)" "timeout: 60"
	echo "nothing is left"
}

no_address() { [ -z "$(find /var/lib/cni/networks -name '10.88.*')" ]; }

if [ -e "$notes/rebooted" ]; then after_reboot; else before_reboot; fi
