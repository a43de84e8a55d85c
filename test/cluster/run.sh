#!/bin/bash
# run.sh makes a cluster of one node with kubeadm, by examples/kubeadm/init.yaml, and prints
# what works in it, a line for each behaviour with what shows it. All is real but systemd: the
# script starts the kubelet once kubeadm has configured it. Run it by test/private.sh; "make
# test-cluster" builds what it needs.
set -Eeuo pipefail
here=$(dirname "$(realpath "$0")")
root=$(dirname "$(dirname "$here")")
programs=$root/bin/cluster
work=$(mktemp -d /run/cluster.XXXX)
logs=$root/out/cluster
address=192.0.2.10
cgroup=mascri-cluster-$(basename "$work" | tr -d .)
export KUBECONFIG=/etc/kubernetes/admin.conf
export PATH=$programs:$root/bin:$root/bin/engine28/usr/bin:$root/bin/engine28/usr/sbin:$PATH
. "$here/images.sh"
. "$here/behaviours.sh"

failed() {
	echo "error: line $1 failed: $2" >&2
	tail -c 1500 "$work/await.out" >&2 || true
	[ ! -e $KUBECONFIG ] || kubectl get pods --all-namespaces -o wide >&2 || true
	[ -z "${KEEP:-}" ] || { echo "kept: nsenter -t $$ -m -n -p" >&2; sleep inf; }
}
cleanup() {
	trap - ERR
	set +e
	mkdir -p "$logs" && cp "$work"/*.log "$logs/"
	# The cgroups are the machine's.
	jobs -p | xargs --no-run-if-empty kill -KILL
	wait
	find /sys/fs/cgroup -depth -type d -path "*/$cgroup*" -exec rmdir {} + 2>/dev/null || true
}
trap 'failed $LINENO "$BASH_COMMAND"' ERR
trap cleanup EXIT

shown=0
# shown BEHAVIOUR EVIDENCE...
shown() { echo "shown  $1: ${*:2}"; shown=$((shown + 1)); }
# await COMMAND... waits until it succeeds.
await() {
	local end=$((SECONDS + 600))
	until "$@" >"$work/await.out" 2>&1; do
		[ $SECONDS -lt $end ] || { echo "error: not so after 600 s: $*" >&2; return 1; }
		sleep 1
	done
}
# same WHAT GOT WANT
same() { [ "$2" = "$3" ] || { echo "error: $1 is \"$2\", want \"$3\"" >&2; false; }; }
# like WHAT GOT PATTERN
like() { [[ $2 = $3 ]] || { echo "error: $1 is \"$2\", want \"$3\"" >&2; false; }; }

echo "[1/5] Docker Engine, images, MasCRI"
ip link add eth0 type veth peer name outside
ip addr add $address/24 dev eth0
ip link set eth0 up
ip link set outside up
ip route add default via 192.0.2.1
echo 1 >/proc/sys/net/ipv4/ip_forward
echo "$address node" >>/etc/hosts
echo "nameserver 192.0.2.1" >"$work/resolv.conf"
mount --bind "$work/resolv.conf" /etc/resolv.conf
mkdir -p /var/lib/kubelet /var/lib/etcd
for dir in /var/lib/kubelet /var/lib/etcd /var/log; do mount -t tmpfs -o mode=755 tmpfs "$dir"; done
for hierarchy in /sys/fs/cgroup/*/; do [ ! -e "$hierarchy/cgroup.procs" ] || mkdir -p "$hierarchy/$cgroup"; done
mkdir -p /etc/docker
echo '{"live-restore": true}' >/etc/docker/daemon.json
dockerd --exec-opt native.cgroupdriver=cgroupfs --cgroup-parent "/$cgroup" >"$work/docker.log" 2>&1 &
await docker version
make_images
mkdir -p /etc/cni/net.d
cat >/etc/cni/net.d/10-pods.conflist <<JSON
{
  "cniVersion": "1.0.0", "name": "pods",
  "plugins": [
    {"type": "bridge", "bridge": "cni0", "isGateway": true, "ipMasq": true, "hairpinMode": true,
     "capabilities": {"ipRanges": true}, "ipam": {"type": "host-local", "routes": [{"dst": "0.0.0.0/0"}]}},
    {"type": "portmap", "capabilities": {"portMappings": true}}
  ]
}
JSON
mkdir -p /etc/mascri/config.d
printf '[network]\ndefault_network = false\nbin_dirs = ["%s"]\n' "$root/bin/cni" >/etc/mascri/config.d/cluster.toml
mascri serve --log-level debug >"$work/mascri.log" 2>&1 &
socket=unix:///run/mascri/mascri.sock
crictl() { "$root/bin/crictl" --timeout 60s --runtime-endpoint "$socket" --image-endpoint "$socket" "$@"; }
await crictl version

echo "[2/5] kubeadm init"
for file in init join; do same "kubeadm's word on $file.yaml" "$(kubeadm config validate --config "$root/examples/kubeadm/$file.yaml" 2>>"$work/kubeadm.log")" ok; done
shown "kubeadm takes the examples" "kubeadm config validate: ok for init.yaml and join.yaml"
# The example, with what this machine needs: its address, cgroups v1 below one of the test's, and
# limits of connections, which only the machine's first network namespace can set.
awk -v version="$(kubeadm version -o short)" -v address=$address -v cgroup="/$cgroup" '
	{ print }
	/^kind: InitConfiguration/ { print "localAPIEndpoint: {advertiseAddress: " address "}\ntimeouts: {kubeletHealthCheck: 10m0s, controlPlaneComponentHealthCheck: 10m0s, kubernetesAPICall: 5m0s}" }
	/^  criSocket:/ { print "  name: node" }
	/^kind: ClusterConfiguration/ { print "kubernetesVersion: " version }
	/^kind: KubeletConfiguration/ { print "cgroupRoot: " cgroup "\nfailCgroupV1: false\noomScoreAdj: 0\nevictionHard: {memory.available: 1Mi, nodefs.available: 0%, imagefs.available: 0%}" }
	END { print "---\napiVersion: kubeproxy.config.k8s.io/v1alpha1\nkind: KubeProxyConfiguration\nconntrack: {maxPerCore: 0, min: 0, tcpEstablishedTimeout: 0s, tcpCloseWaitTimeout: 0s}" }
' "$root/examples/kubeadm/init.yaml" >"$work/init.yaml"
# What systemd does with the unit that kubeadm brings.
start_kubelet() {
	until [ -s /var/lib/kubelet/kubeadm-flags.env ] && [ -s /var/lib/kubelet/config.yaml ]; do sleep 0.2; done
	. /var/lib/kubelet/kubeadm-flags.env
	# shellcheck disable=SC2086 # they are several
	exec kubelet --bootstrap-kubeconfig=/etc/kubernetes/bootstrap-kubelet.conf --kubeconfig=/etc/kubernetes/kubelet.conf \
		--config=/var/lib/kubelet/config.yaml $KUBELET_KUBEADM_ARGS
}
start_kubelet >"$work/kubelet.log" 2>&1 &
kubelet=$!
kubeadm init --config "$work/init.yaml" --ignore-preflight-errors=SystemVerification >"$work/kubeadm.log" 2>&1 || { cat "$work/kubeadm.log" >&2; false; }

echo "[3/5] what runs in it"
control_plane
node_is_ready
addons

echo "[4/5] what users do"
deployment
streams
volumes
stats
runtime_classes
host_ports
rolling_update
jobs_and_debug
drain

echo "[5/5] kubeadm reset"
reset_node
echo "cluster: $shown behaviours shown"
