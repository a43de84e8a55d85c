package cri

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"path"
	"runtime/debug"
	"syscall"
	"time"

	"github.com/containerd/errdefs"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/mascri/mascri/internal/pod"
)

// kinds maps the kinds of errors to status codes; the first that fits counts. The
// context's errors come first: a request that ran out of time may well have met
// others on its way.
var kinds = []struct {
	kind error
	code codes.Code
}{
	{context.DeadlineExceeded, codes.DeadlineExceeded},
	{context.Canceled, codes.Canceled},
	{errdefs.ErrInvalidArgument, codes.InvalidArgument},
	{errdefs.ErrAlreadyExists, codes.AlreadyExists},
	{errdefs.ErrNotImplemented, codes.Unimplemented},
	{errdefs.ErrFailedPrecondition, codes.FailedPrecondition},
	{errdefs.ErrUnavailable, codes.Unavailable},
	{errdefs.ErrNotFound, codes.NotFound},
	{pod.ErrForeign, codes.NotFound},
	{errdefs.ErrResourceExhausted, codes.ResourceExhausted},
	{errdefs.ErrUnauthenticated, codes.Unauthenticated},
	{errdefs.ErrPermissionDenied, codes.PermissionDenied},
	// The node is at its limits: disk space, open files, processes.
	{syscall.ENOSPC, codes.ResourceExhausted},
	{syscall.EDQUOT, codes.ResourceExhausted},
	{syscall.EMFILE, codes.ResourceExhausted},
	{syscall.ENFILE, codes.ResourceExhausted},
	{syscall.EAGAIN, codes.ResourceExhausted},
}

// clients are the codes of what the client asked for in vain: nothing is wrong here.
var clients = map[codes.Code]bool{
	codes.Canceled: true, codes.InvalidArgument: true, codes.NotFound: true, codes.AlreadyExists: true, codes.Unimplemented: true,
}

// lasting are the RPCs that end when their client leaves.
var lasting = map[string]bool{"GetContainerEvents": true}

// toStatus is the only place where errors become status codes.
func toStatus(err error) error {
	if err == nil {
		return nil
	}
	for _, k := range kinds {
		if errors.Is(err, k.kind) {
			return status.Error(k.code, err.Error())
		}
	}
	return status.Error(codes.Internal, err.Error())
}

// Unary is the interceptor of unary RPCs: it recovers panics, logs each failed
// RPC once and makes the status code.
func (s *Server) Unary(ctx context.Context, req any, info *grpc.UnaryServerInfo, handler grpc.UnaryHandler) (resp any, err error) {
	defer s.finish(info.FullMethod, time.Now(), &err)
	return handler(ctx, req)
}

// Stream is Unary for streaming RPCs.
func (s *Server) Stream(srv any, stream grpc.ServerStream, info *grpc.StreamServerInfo, handler grpc.StreamHandler) (err error) {
	defer s.finish(info.FullMethod, time.Now(), &err)
	return handler(srv, stream)
}

// finish must be deferred itself, as it recovers.
func (s *Server) finish(rpc string, began time.Time, err *error) {
	if p := recover(); p != nil {
		s.log.Error("panic in an RPC", "rpc", rpc, "panic", p, "stack", string(debug.Stack()))
		*err = fmt.Errorf("panic in %s, see the log: %v", rpc, p)
	}
	took := time.Since(began)
	defer func() {
		name := path.Base(rpc)
		s.opts.Ended(name, status.Code(*err).String(), took, lasting[name])
	}()
	if *err == nil {
		s.log.Debug("rpc", "rpc", rpc, "took", took)
		return
	}
	*err = toStatus(*err)
	level := slog.LevelError
	if clients[status.Code(*err)] {
		level = slog.LevelInfo
	}
	s.log.Log(context.Background(), level, "rpc failed", "rpc", rpc, "took", took, "code", status.Code(*err).String(), "error", *err)
}

// invalid is an InvalidArgument error that names the field.
func invalid(field, format string, args ...any) error {
	return fmt.Errorf("%s: %s: %w", field, fmt.Sprintf(format, args...), errdefs.ErrInvalidArgument)
}
