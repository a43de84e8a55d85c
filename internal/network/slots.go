package network

import "context"

// slots bounds how many plugin chains run at once.
type slots chan struct{}

// take waits for a slot, and returns what gives it back. The error is that of ctx.
func (s slots) take(ctx context.Context) (release func(), err error) {
	select {
	case s <- struct{}{}:
		return func() { <-s }, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}
