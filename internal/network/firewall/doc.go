// Package firewall keeps the packet filter rules that pods need on the host: a
// [Forward] lets pod subnets be forwarded where Docker drops what it does not know,
// a [Masquerade] gives a subnet the host's address towards the outside.
//
// Both write only chains and tables of their own name, atomically, plus the jumps
// that lead there, and both can be asked again at any time: rules that are in place
// are left alone. All methods may be called from many goroutines.
package firewall
