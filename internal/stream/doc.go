// Package stream serves the connections of exec, attach and port-forward: the SPDY and
// WebSocket protocols of Kubernetes, by k8s.io/cri-streaming. A request that came by the
// CRI gets an address with a token, which is good for one connection within a minute.
//
// Whoever knows a token may do what was asked for: the address is for the kubelet alone,
// and by default on loopback.
package stream
