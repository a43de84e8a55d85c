#!/bin/bash
# image.sh tries the container image of image/Dockerfile, in the VM: it builds it on
# base.tar, runs the daemon from it, and pods by the crictl inside. It first puts the
# engine where it is in Docker Desktop's VM: no mount is shared there.
set -Eeuo pipefail
root=$(dirname "$(dirname "$(realpath "$0")")")
[ "$root" = /payload ] || { echo "image.sh: it is for the VM alone: test/vm.sh image" >&2; exit 2; }
cd "$root"
trap 'echo "error: line $LINENO failed: $BASH_COMMAND" >&2; docker logs mascri 2>&1 | tail -n 15 >&2' ERR

# With a containerd of its own, which must see the engine's mounts.
mkdir -p /run/systemd/system/docker.service.d
printf '%s\n' '[Service]' MountFlags=private ExecStart= 'ExecStart=/usr/sbin/dockerd -H fd://' >/run/systemd/system/docker.service.d/private.conf
systemctl mask --quiet --runtime --now containerd
rm -f /run/containerd/containerd.sock
systemctl daemon-reload
systemctl restart docker

echo "[1/6] building the image"
docker import - debian:trixie-slim <base.tar >/dev/null
DOCKER_BUILDKIT=0 docker build -q -t mascri -f image/Dockerfile . >/run/build.log 2>&1 || { cat /run/build.log; false; }
echo "[2/6] starting the daemon"
mkdir -p /etc/cni/net.d
cp examples/10-bridge.conf /etc/cni/net.d/
image/run.sh >/dev/null
crictl() { docker exec -i mascri crictl --timeout 60s "$@" 2>/dev/null; }
for _ in $(seq 100); do crictl version >/dev/null && break; sleep 0.3; done
docker exec mascri mascri doctor || true
echo "[3/6] two pods"
web=$(crictl runp /dev/stdin <examples/sandbox.json)
client=$(crictl runp /dev/stdin <examples/sandbox-minimal.json)
crictl pods
ip=$(crictl inspectp -o go-template --template '{{.status.network.ip}}' "$web")
docker exec "$web" ip addr show eth0 | grep -F " $ip/"
echo "[4/6] TCP from pod to pod"
pid() { docker inspect -f '{{.State.Pid}}' "$1"; }
nsenter --net --target "$(pid "$web")" timeout 60 busybox nc -l -p 8080 <<<"hello from web" &
sleep 3
[ "$(nsenter --net --target "$(pid "$client")" busybox nc -w 20 "$ip" 8080 </dev/null)" = "hello from web" ]
echo "[5/6] the daemon's container restarts; the pods stay"
docker restart mascri >/dev/null
for _ in $(seq 100); do crictl version >/dev/null && break; sleep 0.3; done
[ "$(crictl pods -q --state ready | wc -l)" = 2 ]
[ "$(docker exec mascri find /run/netns -name 'cni-*' | wc -l)" = 2 ]
docker exec mascri nsenter "--net=$(crictl inspectp -o go-template --template '{{.info.netnsPath}}' "$web")" true
echo "[6/6] removing the pods"
crictl rmp -f "$web" "$client"
[ -z "$(crictl pods -q)" ]
[ -z "$(docker exec mascri find /run/netns -name 'cni-*')" ]
[ "$(iptables -t nat -S | grep -c CNI || true)" = 0 ]
[ -z "$(find /var/lib/cni/networks -name '10.88.*')" ]
docker rm -f mascri >/dev/null
echo "nothing is left"
