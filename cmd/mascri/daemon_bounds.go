package main

import (
	"time"

	"golang.org/x/sys/unix"
	"google.golang.org/grpc"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/tap"
)

const (
	// The kubelet's own limit for a message, both ways, in bytes.
	messageBytes = 16 << 20
	// Metadata of one RPC, in bytes: clients send some hundred.
	headerBytes = 64 << 10
	// RPCs of one connection at once. A client that has more waits for its own, and leaves
	// the others some of what cri.Server admits in all.
	perConnection = 1000
	// Connections at once, where there are file descriptors for them; more wait until one
	// is closed.
	maxConnections = 1000
	// How long a client may take to say what it speaks.
	handshakeLimit = 10 * time.Second
	// How long a connection may be without an RPC. A client with manners connects anew.
	idleLimit = 15 * time.Minute
	// A connection on which nothing came for pingEvery is asked whether its client still
	// reads, and closed where there is no answer within pingLimit. What was to be sent to
	// it is let go then.
	pingEvery, pingLimit = 30 * time.Second, 15 * time.Second
)

// bounds keep what clients can make the CRI's server hold within limits, whatever they do.
func bounds(admit tap.ServerInHandle) []grpc.ServerOption {
	return []grpc.ServerOption{
		grpc.InTapHandle(admit),
		grpc.MaxRecvMsgSize(messageBytes), grpc.MaxSendMsgSize(messageBytes), grpc.MaxHeaderListSize(headerBytes),
		grpc.MaxConcurrentStreams(perConnection), grpc.ConnectionTimeout(handshakeLimit),
		grpc.KeepaliveParams(keepalive.ServerParameters{MaxConnectionIdle: idleLimit, Time: pingEvery, Timeout: pingLimit}),
	}
}

// connections is how many there may be at once: some of the process's file descriptors, as
// clients must not take those that the work for pods needs.
func connections() int {
	var files unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &files); err != nil || files.Cur/4 > maxConnections {
		return maxConnections
	}
	return int(files.Cur/4) + 1
}
