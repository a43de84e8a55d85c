# cluster-images.sh makes the images of a cluster of kubeadm's from the programs that were built,
# by the names that kubeadm gives them. The script that sources it sets programs and work.

# import IMAGE TREE ENTRYPOINT makes an image of a directory.
import() {
	local change=(--change 'ENV PATH=/usr/local/bin:/usr/sbin:/usr/bin:/bin')
	[ -z "$3" ] || change+=(--change "ENTRYPOINT [\"$3\"]")
	tar -C "$2" -c . | docker import "${change[@]}" - "$1" >/dev/null
	rm -r "$2"
}

make_images() {
	local image program tree=$work/tree
	for image in $(kubeadm config images list --kubernetes-version "$(kubeadm version -o short)"); do
		program=$(basename "${image%:*}")
		mkdir -p "$tree"/{tmp,etc,usr/local/bin}
		# Kubeadm wants a pause image to be there. MasCRI runs its own.
		[ "$program" = pause ] || cp "$programs/$program" "$tree/usr/local/bin/"
		[ "$program" != kube-proxy ] || add_iptables "$tree"
		import "$image" "$tree" "/usr/local/bin/$program"
	done
	mkdir -p "$tree"/{tmp,etc,bin}
	cp "$(command -v busybox)" "$tree/bin/busybox"
	for program in $("$tree/bin/busybox" --list); do [ "$program" = busybox ] || ln -s busybox "$tree/bin/$program"; done
	# kubectl cp wants tar, which busybox has.
	for image in localhost/web:1 localhost/web:2; do
		echo "${image#*:}" >"$tree/etc/version"
		cp -a "$tree" "$tree.copy"
		import $image "$tree.copy" ""
	done
	rm -r "$tree"
}

# add_iptables copies the machine's iptables, nft and all that they load into a tree.
add_iptables() {
	local file
	{
		ls /usr/sbin/{iptables,ip6tables}{,-save,-restore} /usr/sbin/nft /usr/lib/*/xtables/*.so
		ldd /usr/sbin/{iptables,nft} /usr/lib/*/xtables/*.so 2>/dev/null | grep -oP '(=> |^\t)\K/\S+(?= \()'
	} | sort -u | while read -r file; do install -D "$file" "$1$file"; done
}
