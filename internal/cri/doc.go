// Package cri is the gRPC surface of the CRI v1 API. The handlers are the use
// cases: each reads from top to bottom as the story of one request, in terms of
// the engine, the network and the index, whose interfaces it declares itself.
package cri
