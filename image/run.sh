#!/bin/sh
# run.sh [OPTION of mascri serve...]
#
# Runs the daemon in a container named mascri, on the Docker that "docker" talks to:
# for machines that run nothing but containers, as the Linux VM of Docker Desktop. It
# shares the engine's machine in all but the programs: its processes, its network,
# the engine's files and socket, and the state that must outlive the container.
set -eu

docker run --rm --privileged --pid host --network none --entrypoint shared-netns mascri

exec docker run --detach --name mascri --restart unless-stopped \
	--privileged --pid host --network host --cgroupns host \
	--volume /var/run/docker.sock:/var/run/docker.sock \
	--volume /var/lib/docker:/var/lib/docker \
	--volume /var/lib/mascri:/var/lib/mascri \
	--volume /var/lib/cni:/var/lib/cni \
	--volume /etc/cni/net.d:/etc/cni/net.d \
	--volume /run/netns:/run/netns:rshared \
	mascri serve "$@"
