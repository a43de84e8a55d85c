#!/bin/bash
# vm.sh build | smoke | workloads | kubelet | network | image | install | shell
#
# A Debian VM with what most nodes have and few build machines: systemd as the first
# process, cgroup v2, a current kernel and a current Docker Engine.
#
#   build  makes its disk in $VM_DIR, once: some minutes, 1.5 GB
#   smoke  boots it, runs the demo in it and prints what it said; exit code: the demo's
#   workloads
#          boots it and looks at containers' limits in cgroup v2, and runs specs of critest
#   network
#          boots it and attaches pods by every chain of plugins, ipvlan's and vlan's too
#   kubelet
#          boots it and runs a kubelet with static pods, by the systemd cgroup driver
#   image  boots it and tries the container image of image/Dockerfile in it, the same way
#   install
#          installs MasCRI in it, reboots it on the way, and takes MasCRI off again
#   shell  boots it with a shell on this terminal; "poweroff" ends it
#
# Nothing that the guest does outlives it. It has no network. It needs root, and by
# apt qemu-system-x86, mmdebstrap, e2fsprogs, busybox-static and cpio, which are
# installed where missing.
# Settings: VM_DIR (out/vm), VM_ACCEL (tcg: software emulation, ten times slower than
# kvm but boots everywhere), VM_MEM (4096, MB), VM_TIMEOUT (900, seconds; 1800 for install).
set -euo pipefail
root=$(dirname "$(dirname "$(realpath "$0")")")
dir=${VM_DIR:-$root/out/vm}
. "$root/test/debian.sh"

die() { echo "vm.sh: $*" >&2; exit 1; }

need() {
	[ "$(id -u)" = 0 ] || die "needs root"
	[ "$(uname -m)" = x86_64 ] || die "the VM is one for amd64; this machine is $(uname -m)"
	is_debian || die "the VM is made from Debian's packages, and this machine is not one of Debian's"
	local missing=() pair
	for pair in qemu-system-x86_64:qemu-system-x86 mmdebstrap:mmdebstrap mkfs.ext4:e2fsprogs busybox:busybox-static cpio:cpio; do
		command -v "${pair%%:*}" >/dev/null || missing+=("${pair#*:}")
	done
	[ ${#missing[@]} = 0 ] || "$root/test/deps.sh" "${missing[@]}"
}

# bootstrap FORMAT VARIANT PACKAGES TARGET installs Debian.
bootstrap() {
	mmdebstrap --quiet --mode=root --format="$1" --variant="$2" --include="$3" \
		--aptopt='Apt::Install-Recommends "false"' --aptopt='Acquire::Check-Valid-Until "false"' --aptopt='Acquire::Languages "none"' \
		--dpkgopt='path-exclude=/usr/share/man/*' --dpkgopt='path-exclude=/usr/share/doc/*' --dpkgopt='path-exclude=/usr/share/locale/*' \
		$suite "$4" "deb [signed-by=$keyring] $(archive) $suite main"
}

build() {
	local tree=$dir/tree packages
	packages=systemd,systemd-sysv,dbus,udev,kmod,util-linux,mount,procps,linux-image-cloud-amd64
	packages+=,docker.io,docker-cli,containerd,runc,iptables,nftables,iproute2,busybox-static
	mkdir -p "$dir"
	rm -rf "$dir"/{tree,initrd,initrd.gz,vmlinuz,root.img,root.img.new,base.tar}
	echo "vm: installing Debian $suite into a directory"
	bootstrap directory minbase $packages "$tree"
	echo "vm: making its disk"
	configure "$tree"
	cp "$tree"/boot/vmlinuz-* "$dir/vmlinuz"
	initrd "$tree"
	truncate -s 8G "$dir/root.img.new"
	mkfs.ext4 -q -O ^has_journal -d "$tree" "$dir/root.img.new"
	rm -rf "$tree"
	echo "vm: making the base of the container image"
	bootstrap tar apt iptables,nftables "$dir/base.tar"
	mv "$dir/root.img.new" "$dir/root.img"
}

# configure makes the guest mount the payload, and run it after the boot.
configure() {
	local tree=$1
	mkdir -p "$tree/payload"
	echo vm >"$tree/etc/hostname"
	printf '127.0.0.1 localhost vm\n::1 localhost\n' >"$tree/etc/hosts"
	printf '%s\n' '/dev/vda / ext4 defaults,noatime 0 1' '/dev/vdb /payload ext4 ro 0 0' >"$tree/etc/fstab"
	printf '%s\n' overlay br_netfilter nf_tables >"$tree/etc/modules-load.d/containers.conf"
	cat >"$tree/etc/systemd/system/payload.service" <<-'UNIT'
		[Unit]
		After=multi-user.target docker.service
		Wants=docker.service
		RequiresMountsFor=/payload
		[Service]
		ExecStart=/payload/run
		StandardInput=tty-force
		StandardOutput=tty
		TTYPath=/dev/ttyS0
		Environment=HOME=/root TERM=dumb
		ExecStopPost=/usr/bin/systemctl poweroff --no-block
		[Install]
		WantedBy=graphical.target multi-user.target
	UNIT
	chroot "$tree" systemctl enable -q docker payload 2>/dev/null
	chroot "$tree" systemctl mask -q serial-getty@ttyS0.service systemd-networkd.service 2>/dev/null
}

# initrd makes a small one that loads the disk's driver, a module in this kernel.
initrd() {
	local tree=$1 ird=$dir/initrd module
	mkdir -p "$ird"/{bin,proc,sys,dev,newroot}
	cp "$(command -v busybox)" "$ird/bin/busybox"
	module=$(find "$tree"/usr/lib/modules -name 'virtio_blk.ko*' | head -n 1)
	case $module in
	*.xz) xz -dc "$module" ;;
	*.zst) zstd -qdc "$module" ;;
	*) cat "$module" ;;
	esac >"$ird/virtio_blk.ko"
	cat >"$ird/init" <<-'INIT'
		#!/bin/busybox sh
		b=/bin/busybox
		$b mount -t proc proc /proc; $b mount -t sysfs sys /sys; $b mount -t devtmpfs dev /dev
		$b insmod /virtio_blk.ko
		i=0; while [ ! -b /dev/vda ] && [ $i -lt 100 ]; do $b sleep 0.1; i=$((i+1)); done
		$b mount -t ext4 -o rw,noatime /dev/vda /newroot || exec $b sh
		$b umount /proc; $b umount /sys; $b mount --move /dev /newroot/dev
		exec $b switch_root /newroot /lib/systemd/systemd
	INIT
	chmod +x "$ird/init"
	(cd "$ird" && find . | cpio -o -H newc 2>/dev/null | gzip -1) >"$dir/initrd.gz"
	rm -rf "$ird"
}

# boot runs the VM with a disk made of directory $1 until it powers off.
boot() {
	rm -f "$dir/payload.img"
	truncate -s 512M "$dir/payload.img"
	mkfs.ext4 -q -d "$1" "$dir/payload.img"
	# Under software emulation "-cpu max" oopses in some versions of qemu; Nehalem boots.
	local cpu=Nehalem
	[ "${VM_ACCEL:-tcg}" = tcg ] || cpu=host
	local reboot=-no-reboot disk=$dir/root.img snapshot=on limit=900
	if [ "${3:-}" = install ]; then # which boots twice from one disk
		reboot='' disk=$dir/install.img snapshot=off limit=1800
		cp --sparse=always "$dir/root.img" "$disk"
	fi
	# shellcheck disable=SC2086 # there may be no option
	timeout --foreground "${VM_TIMEOUT:-$limit}" qemu-system-x86_64 -nodefaults -no-user-config -display none $reboot \
		-machine q35 -accel "${VM_ACCEL:-tcg}" -cpu $cpu -smp 2 -m "${VM_MEM:-4096}" \
		-kernel "$dir/vmlinuz" -initrd "$dir/initrd.gz" \
		-append "console=ttyS0 quiet loglevel=3 systemd.show_status=0 systemd.default_device_timeout_sec=600 systemd.default_timeout_start_sec=600 mitigations=off nowatchdog panic=-1 net.ifnames=0 random.trust_cpu=on no_timer_check" \
		-drive file="$disk",if=virtio,format=raw,snapshot=$snapshot \
		-drive file="$dir/payload.img",if=virtio,format=raw,readonly=on \
		-device virtio-rng-pci -serial "$2"
}

# payload gathers in directory $1 what the guest needs: binaries and scripts.
payload() {
	mkdir -p "$1"/{bin,test}
	cp -a "$root"/bin/{mascri,crictl,critest,cni} "$1/bin/"
	cp -a "$root"/test/*.sh "$1/test/"
	cp -a "$root"/{examples,image,.dockerignore} "$1/"
}

# try PART boots the VM, runs a part of vm-guest.sh and ends with its exit code.
try() {
	local log=$root/out/vm-$1.log rc
	tmp=$(mktemp -d)
	trap 'rm -rf "$tmp" "$dir/install.img"' EXIT
	payload "$tmp"
	case $1 in
	network) CGO_ENABLED=0 go test -C "$root" -c -o "$tmp/internal/network/network.test" ./internal/network ;;
	kubelet) cp "$root"/bin/kubelet{,-stream} "$tmp/bin/" ;;
	image) cp "$root"/{LICENSE,bin/THIRD_PARTY_LICENSES} "$dir/base.tar" "$tmp/" && mv "$tmp/THIRD_PARTY_LICENSES" "$tmp/bin/" ;;
	esac
	printf '#!/bin/sh\nexec /payload/test/vm-guest.sh %s\n' "$1" >"$tmp/run"
	chmod +x "$tmp/run"
	mkdir -p "$root/out"
	# An emulated CPU may trip over the kernel's patching of its own code ("Oops: int3").
	for _ in 1 2 3; do
		: >"$log"
		echo "vm: booting (log: $log)"
		boot "$tmp" "file:$log" "$1" || die "qemu ended with $?; the last lines were:
$(tail -n 20 "$log")"
		! grep -q '^guest: ' "$log" || break
		echo "vm: the kernel did not come up"
	done
	tr -d '\r' <"$log" | sed -n '/^guest: /,/^guest: exit code/p'
	rc=$(tr -d '\r' <"$log" | sed -nE 's/^guest: exit code ([0-9]+)$/\1/p')
	exit "${rc:-1}"
}

shell() {
	tmp=$(mktemp -d)
	trap 'rm -rf "$tmp"' EXIT
	payload "$tmp"
	printf '#!/bin/sh\ncd /payload; exec bash -il\n' >"$tmp/run"
	chmod +x "$tmp/run"
	boot "$tmp" mon:stdio
}

case ${1:-} in
build) need; build ;;
smoke | workloads | kubelet | network | image | install | shell)
	need
	[ -f "$dir/root.img" ] || build
	if [ "$1" = shell ]; then shell; else try "$1"; fi
	;;
*) sed -n '2,/^set /{/^set /d;s/^# \{0,1\}//;p}' "$0"; exit 2 ;;
esac
