#!/bin/bash
# packages.sh takes the .deb of the build before this one and that of this one through their
# lives under a real systemd, with pods running: it is for the VM.
set -Eeuo pipefail
root=$(dirname "$(dirname "$(realpath "$0")")")
[ "$root" = /payload ] || { echo "packages.sh: it is for the VM alone: test/vm.sh packages" >&2; exit 2; }
trap 'echo "error: line $LINENO failed: $BASH_COMMAND" >&2; systemctl status --no-pager mascri.socket mascri.service | grep -vE "CGroup|─" >&2; journalctl --no-pager -u mascri -n 30 >&2' ERR

crictl() { "$root/bin/crictl" --runtime-endpoint unix:///run/mascri/mascri.sock --timeout 120s "$@" 2>/dev/null; }
same() { [ "$2" = "$3" ] || { echo "error: $1 is \"$2\", want \"$3\"" >&2; false; }; echo "      $1  $2"; }
until_true() { local end=$((SECONDS + 180)); until "$@" >/dev/null 2>&1; do [ $SECONDS -lt $end ] || { echo "error: not within 180 s: $*" >&2; return 1; }; sleep 1; done; }
main() { systemctl show -P MainPID mascri.service; }
socket_since() { systemctl show -P ActiveEnterTimestampMonotonic mascri.socket; }
pid() { docker inspect -f '{{.State.Pid}}' "$1"; }
inspect() { crictl inspectp -o go-template --template "{{.status.$2}}" "$1"; }
version() { crictl version | sed -n 's/^RuntimeVersion: *//p'; }
is_version() { [ "$(version)" = "$1" ]; }

# machine prints all that a package could leave.
machine() {
	{ find /etc /usr /run/mascri /run/systemd/system /var/lib/mascri -not -path '*/__pycache__*' 2>/dev/null || true; } | sort
	iptables-save | grep -vE '^(#|:)|MASCRI-'
	systemctl list-units --all --plain --no-legend 'mascri*'
}

# alive WHEN checks that both pods and the container are as they were at first.
alive() {
	same "$1: pids" "$(pid "$web") $(pid "$client") $(pid "$hello")" "$pids"
	same "$1: IPs" "$(inspect "$web" network.ip) $(inspect "$client" network.ip)" "$ips"
	same "$1: states" "$(inspect "$web" state) $(inspect "$client" state)" "SANDBOX_READY SANDBOX_READY"
	same "$1: exec" "$(crictl exec "$hello" /busybox echo works)" works
}

mkdir -p /etc/cni/net.d /opt/cni/bin
cp "$root"/bin/cni/* /opt/cni/bin/
cp "$root/examples/10-bridge.conf" /etc/cni/net.d/
tar -c -C "$(dirname "$(realpath "$(command -v busybox)")")" busybox | docker import --change 'CMD ["/busybox", "sleep", "100000"]' - hello:1 >/dev/null
machine >/run/before

echo "[1/6] the build before this one: dpkg -i"
dpkg -i "$root/mascri_0.1.0_linux_amd64.deb" >/dev/null
systemd-analyze verify --man=no mascri.service mascri.socket
until_true is_version 0.1.0
same "at boot" "$(systemctl is-enabled mascri.socket mascri.service | xargs)" "enabled enabled"

echo "[2/6] two pods, a container"
web=$(crictl runp "$root/examples/sandbox.json")
client=$(crictl runp "$root/examples/sandbox-minimal.json")
hello=$(crictl create "$web" "$root/examples/container.json" "$root/examples/sandbox.json")
crictl start "$hello" >/dev/null
pids="$(pid "$web") $(pid "$client") $(pid "$hello")"
ips="$(inspect "$web" network.ip) $(inspect "$client" network.ip)"
echo "      $ips"

echo "[3/6] upgrade to this build: dpkg -i"
before=$(main) socket=$(socket_since)
dpkg -i "$root/mascri_0.2.0_linux_amd64.deb" >/dev/null
until_true is_version 0.2.0
[ "$(main)" != "$before" ]
same "the socket, all the time" "$(socket_since)" "$socket"
systemd-analyze verify --man=no mascri.service mascri.socket
alive upgraded

echo "[4/6] downgrade, and this build once more"
dpkg -i "$root/mascri_0.1.0_linux_amd64.deb" >/dev/null 2>&1
until_true is_version 0.1.0
alive downgraded
dpkg -i "$root/mascri_0.2.0_linux_amd64.deb" >/dev/null
until_true is_version 0.2.0

echo "[5/6] removed, the pods run on; installed again"
dpkg -r mascri >/dev/null
same "units" "$(systemctl is-active mascri.service mascri.socket | xargs)" "inactive inactive"
same "pids" "$(pid "$web") $(pid "$client") $(pid "$hello")" "$pids"
dpkg -i "$root/mascri_0.2.0_linux_amd64.deb" >/dev/null
until_true is_version 0.2.0
alive "installed again"

echo "[6/6] without pods, purged"
crictl rmp --all --force >/dev/null
dpkg -P mascri >/dev/null
command ip link delete cni0 # the plugin's own
machine | diff /run/before -
echo "nothing is left but what goes with the next boot, and the sandbox image:"
iptables-save | { grep MASCRI- || :; } | sed 's/^/      /'
docker images --format '      {{.Repository}} {{.Size}}' localhost/mascri/sandbox
