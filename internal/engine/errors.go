package engine

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"

	"github.com/containerd/errdefs"
	"github.com/moby/moby/client"
)

// messenger is what every errdefs sentinel can do.
type messenger interface {
	error
	WithMessage(text string) error
}

// kinds are those that an answer of the engine can have. A conflict is settled where
// it arises: what it means depends on the request.
var kinds = []messenger{
	errdefs.ErrNotFound, errdefs.ErrAlreadyExists, errdefs.ErrInvalidArgument, errdefs.ErrConflict,
	errdefs.ErrFailedPrecondition, errdefs.ErrUnauthenticated, errdefs.ErrPermissionDenied, errdefs.ErrResourceExhausted, errdefs.ErrNotImplemented, errdefs.ErrUnavailable,
}

// failed says what failed in err's words and with its kind, without moby's types. An
// engine that went away in the middle of an answer is unavailable just like one that
// never answered: in neither case it is known what the request did.
func (e *Engine) failed(what string, err error) error {
	for _, ended := range []error{context.Canceled, context.DeadlineExceeded} {
		if errors.Is(err, ended) {
			return fmt.Errorf("%s: %w", what, ended)
		}
	}
	if client.IsErrConnectionFailed(err) || isBroken(err) {
		return fmt.Errorf("%s: %w", what, e.unreachable(err))
	}
	text := strings.TrimPrefix(err.Error(), "Error response from daemon: ")
	for _, kind := range kinds {
		if errors.Is(err, kind) {
			return fmt.Errorf("%s: %w", what, kind.WithMessage(text))
		}
	}
	return fmt.Errorf("%s: %w", what, errdefs.ErrInternal.WithMessage(text))
}

func (e *Engine) unreachable(err error) error {
	text := err.Error()
	if op := (*net.OpError)(nil); errors.As(err, &op) {
		text = op.Error() // without what moby says around it
	} else if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		text = "it closed the connection in the middle of an answer"
	} else if client.IsErrConnectionFailed(err) {
		text = "nobody answers there" // moby says no more, but asks what we ask
	}
	return errdefs.ErrUnavailable.WithMessage(fmt.Sprintf("Docker Engine at %s can't be reached: %s; is it running?", e.host, text))
}

// isBroken tells a connection that broke while an answer was read.
func isBroken(err error) bool {
	op := (*net.OpError)(nil)
	return errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || errors.As(err, &op)
}

func invalidHost(host string, err error) error {
	return fmt.Errorf("engine address %q: %w", host, errdefs.ErrInvalidArgument.WithMessage(err.Error()))
}
