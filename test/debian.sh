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
