#!/bin/sh
# shared-netns makes /run/netns a shared mount where the engine is: the pins of the
# pods' network namespaces are mounts, which have to outlive the daemon's container. In
# Docker Desktop's VM nothing is shared until one says so. It runs in a privileged
# container with the engine's processes (--pid host).
set -eu
for dir in /proc/[0-9]*; do
	[ "$(cat "$dir/comm" 2>/dev/null)" != dockerd ] || exec nsenter --mount="$dir/ns/mnt" /bin/sh -ec '
		mkdir -p /run/netns
		grep -q " /run/netns " /proc/self/mountinfo || mount --bind /run/netns /run/netns
		mount --make-shared /run/netns'
done
echo "no process called dockerd is seen: is this Docker Engine?" >&2
exit 1
