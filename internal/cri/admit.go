package cri

import (
	"context"
	"path"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/grpc/tap"
)

// maxAtOnce bounds how many RPCs are under way at once, of all clients together. A kubelet
// that drains a node of 250 pods has some 800.
const maxAtOnce = 2000

// always are the RPCs that answer from memory whatever else goes on: by them others see
// that the daemon lives.
var always = map[string]bool{"Version": true, "Status": true}

// Admit is gRPC's tap handle: it refuses an RPC for which there is no room with
// ResourceExhausted, before anything is made for it. An admitted one has its place until its
// context ends, which is when its answer was handed over.
func (s *Server) Admit(ctx context.Context, info *tap.Info) (context.Context, error) {
	name := path.Base(info.FullMethodName)
	if always[name] {
		return ctx, nil
	}
	if s.underWay.Add(1) > maxAtOnce {
		s.underWay.Add(-1)
		err := status.Errorf(codes.ResourceExhausted, "%s: %d RPCs are under way already, the most that MasCRI serves at once; ask again later, and less at a time", name, maxAtOnce)
		s.opts.Ended(name, codes.ResourceExhausted.String(), 0, lasting[name])
		s.log.Debug("rpc refused", "rpc", info.FullMethodName, "error", err)
		return ctx, err
	}
	context.AfterFunc(ctx, func() { s.underWay.Add(-1) })
	return ctx, nil
}
