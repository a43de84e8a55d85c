# pods.sh is what the scripts that run pods in the VM have in common; they set root, work
# and image.
socket=$work/mascri.sock

failed() { echo "error: line $1 failed: $2" >&2; tail -n 15 "$work"/*.log >&2; }
trap 'failed $LINENO "$BASH_COMMAND"' ERR
trap 'kill $(jobs -p) 2>/dev/null; wait' EXIT

crictl() { "$root/bin/crictl" --timeout 120s --runtime-endpoint "unix://$socket" --image-endpoint "unix://$socket" "$@" 2>"$work/crictl.err" || { cat "$work/crictl.err" >&2; false; }; }

# serve [FLAG...] starts MasCRI and imports the image of a static busybox.
serve() {
	local tree=$work/tree applet
	"$root/bin/mascri" serve --socket "$socket" --state-dir "$work/state" --cni-bin-dir "$root/bin/cni" "$@" >"$work/mascri.log" 2>&1 &
	for _ in $(seq 100); do crictl version >/dev/null 2>&1 && break; sleep 0.3; done
	mkdir -p "$tree"/{bin,tmp,etc}
	cp "$(command -v busybox)" "$tree/bin/busybox"
	for applet in $("$tree/bin/busybox" --list); do [ "$applet" = busybox ] || ln -s busybox "$tree/bin/$applet"; done
	tar -C "$tree" -c . | docker import --change 'CMD ["sh"]' - "$image" >/dev/null
}

# status CONTAINER FIELD prints a field of its status.
status() { crictl inspect -o go-template --template "{{.$2}}" "$1"; }

# cgroup CONTAINER prints the path of its cgroup, and file CONTAINER NAME a file of it.
cgroup() { sed -n 's/^0:://p' "/proc/$(status "$1" info.pid)/cgroup"; }
file() { cat "/sys/fs/cgroup$(cgroup "$1")/$2"; }

# same WHAT GOT WANT
same() { [ "$2" = "$3" ] || { echo "error: $1 is \"$2\", want \"$3\"" >&2; false; }; echo "      $1  $2"; }
