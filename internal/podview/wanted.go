package podview

import (
	"context"

	"golang.org/x/sync/errgroup"
)

// atOnce is how many requests are under way at a time.
const atOnce = 8

// namespaceLabel is the kubelet's; the metadata has it, but CRI's filters do not.
const namespaceLabel = "io.kubernetes.pod.namespace"

// Wanted says what is listed.
type Wanted struct {
	All       bool              // also what does not run
	Namespace string            // "": any
	Labels    map[string]string // all of which it has
}

// each calls ask for each number below n, some at once, and returns the first error.
func each(ctx context.Context, n int, ask func(ctx context.Context, i int) error) error {
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(atOnce)
	for i := range n {
		group.Go(func() error { return ask(ctx, i) })
	}
	return group.Wait()
}
