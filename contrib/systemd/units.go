// Package systemd holds the units of MasCRI, for "mascri install" and for packages.
package systemd

import (
	_ "embed" // for the units
)

// Binary is the path of mascri that Service names.
const Binary = "/usr/local/bin/mascri"

// Socket is where the socket unit listens.
const Socket = "/run/mascri/mascri.sock"

// ServiceUnit is mascri.service.
//
//go:embed mascri.service
var ServiceUnit []byte

// SocketUnit is mascri.socket.
//
//go:embed mascri.socket
var SocketUnit []byte
