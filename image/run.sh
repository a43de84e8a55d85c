#!/bin/sh
# run.sh [OPTION of mascri serve...]
#
# Runs the daemon in a container named mascri, on the Docker that "docker" talks to:
# for machines that run nothing but containers, as the Linux VM of Docker Desktop. It
# shares the engine's machine in all but the programs: its processes, its network,
# the engine's files and socket, and the state that must outlive the container.
set -eu

# The pins of the pods' network namespaces are mounts, which have to outlive the
# container too: so /run/netns must be a shared mount where the engine is. In Docker
# Desktop's VM nothing is shared until one says so.
docker run --rm --privileged --pid host --entrypoint /bin/sh mascri -ec '
	for dir in /proc/[0-9]*; do
		[ "$(cat $dir/comm 2>/dev/null)" != dockerd ] || exec nsenter --mount=$dir/ns/mnt /bin/sh -ec "
			mkdir -p /run/netns
			grep -q \" /run/netns \" /proc/self/mountinfo || mount --bind /run/netns /run/netns
			mount --make-shared /run/netns"
	done
	echo "no process called dockerd is seen: is this Docker Engine?" >&2
	exit 1'

exec docker run --detach --name mascri --restart unless-stopped \
	--privileged --pid host --network host --cgroupns host \
	--volume /var/run/docker.sock:/var/run/docker.sock \
	--volume /var/lib/docker:/var/lib/docker \
	--volume /var/lib/mascri:/var/lib/mascri \
	--volume /var/lib/cni:/var/lib/cni \
	--volume /etc/cni/net.d:/etc/cni/net.d \
	--volume /run/netns:/run/netns:rshared \
	mascri serve "$@"
