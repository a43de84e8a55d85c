# debian.sh is sourced by what takes newer packages from Debian: from where this
# machine's own apt gets its packages, but of a later suite.
suite=forky
keyring=/usr/share/keyrings/debian-archive-keyring.gpg

# is_debian tells whether this machine has Debian's archive and its keys.
is_debian() { (. /etc/os-release && [ "$ID" = debian ] && [ -f "$keyring" ] && [ -n "$(archive)" ]); }

# archive prints the address that apt uses, without that of security updates.
archive() {
	{ cat /etc/apt/sources.list.d/debian.sources /etc/apt/sources.list 2>/dev/null || :; } |
		sed -nE '/security/d; s/^URIs: *([^ ]+).*/\1/p; s/^deb (\[[^]]*\] )?([^ ]+) .*/\2/p' | sed -n 1p
}

# unpack DIR PACKAGE... takes the suite's packages from the archive, and unpacks them into
# DIR/root. apt's state is not touched.
unpack() {
	local dir=$1 apt deb
	shift
	mkdir -p "$dir"/{lists,cache,debs,root}
	echo "deb [signed-by=$keyring] $(archive) $suite main" >"$dir/sources.list"
	apt=(apt-get -qq -o Dir::Etc::sourcelist="$dir/sources.list" -o Dir::Etc::sourceparts=/dev/null -o Dir::Etc::preferencesparts=/dev/null
		-o Dir::State::lists="$dir/lists" -o Dir::Cache="$dir/cache" -o APT::Sandbox::User=root
		-o Acquire::Languages=none -o Acquire::Check-Valid-Until=false)
	"${apt[@]}" update
	(cd "$dir/debs" && "${apt[@]}" download "$@")
	for deb in "$dir"/debs/*.deb; do dpkg -x "$deb" "$dir/root"; done
}
