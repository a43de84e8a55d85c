#!/bin/bash
# docs.sh
#
# Runs the commands of the quick start, the README, the networking guide and the page
# on the container on a real engine, as a reader would who has Docker, Go and git, and
# begins in an empty directory. It is for private.sh. To git, the project's address is
# this tree as it is, with what is not committed yet.
set -euo pipefail
[ -n "${MASCRI_PRIVATE:-}" ] || { echo "docs.sh: it changes the machine that it runs on; run test/private.sh test/docs.sh" >&2; exit 2; }
root=$(dirname "$(dirname "$(realpath "$0")")")
work=/run/docs # gone with the namespace
mkdir -p $work/{root,source,home,base}
mount --bind "$root" $work/root
root=$work/root
mount -t tmpfs tmpfs /tmp
# A fresh machine has neither logs nor state, which is no mount. It is so in here alone.
umount /var/lib/mascri
rm -rf /var/lib/mascri /var/log/pods

# await COMMAND... tries for a minute.
await() {
	for _ in $(seq 300); do
		! "$@" >/dev/null 2>&1 || return 0
		sleep 0.2
	done
	"$@"
}

# base prints the file system of an image that has what image/Dockerfile takes by apt:
# there is no registry, and an apt-get that installs nothing does.
base() {
	local programs libraries plugins
	programs=$(type -P sh cat grep mkdir mount nsenter rm nft; ls /usr/sbin/{ip,ip6}tables*)
	plugins=$(dirname "$(find /usr/lib /usr/lib64 -name libxt_tcp.so -print -quit 2>/dev/null)")
	# ldd fails for scripts, and goes on.
	libraries=$({ ldd $programs "$plugins"/*.so || true; } 2>/dev/null | sed -nE 's#(.* => |\t)(/[^ ]+) \(0x.*#\2#p' | sort -u)
	cp -rL --parents $programs $libraries "$plugins" $work/base
	ln -s usr/bin usr/sbin $work/base
	cp -L "$(type -P true)" $work/base/usr/bin/apt-get
	tar -c -C $work/base .
}

cd "$root"
go build -o $work/docs ./test/docs
git -c safe.directory="$root" ls-files -z --cached --others --exclude-standard |
	tar -c --null --files-from - --ignore-failed-read | tar -x -C $work/source
export GIT_CONFIG_COUNT=2 \
	GIT_CONFIG_KEY_0=safe.directory GIT_CONFIG_VALUE_0='*' \
	GIT_CONFIG_KEY_1=url.$work/source.insteadOf GIT_CONFIG_VALUE_1=https://github.com/mascri/mascri
git -C $work/source init -q
git -C $work/source add --all
git -C $work/source -c user.name=docs -c user.email=docs@localhost commit -q -m "the tree as it is"

[ ! -x bin/engine28/usr/sbin/dockerd ] || export PATH="$root/bin/engine28/usr/sbin:$root/bin/engine28/usr/bin:$PATH"
dockerd >$work/dockerd.log 2>&1 &
await docker version || { tail -n 15 $work/dockerd.log >&2; exit 1; }

cd $work/home
$work/docs -until "The first pod" "$root/docs/quick-start.md" | tee $work/quick-start
cd mascri
$work/docs "$root/README.md"

# The networking guide is for a daemon that runs already.
export PATH="$PWD/bin:$PATH" CRI_CONFIG_FILE="$PWD/bin/crictl.yaml"
mascri serve --cni-bin-dir "$PWD/bin/cni" 2>$work/mascri.log &
mascri=$!
await crictl version
$work/docs "$root/docs/networking.md"
kill $mascri
wait $mascri

base | docker import - debian:trixie-slim >/dev/null
$work/docs "$root/docs/container.md"
echo "docs: the commands of 4 pages run as they stand; the first pod has its IP after $(sed -nE 's/^ +([0-9]+ s) since .*/\1/p' $work/quick-start)"
