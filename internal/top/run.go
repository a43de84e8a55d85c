package top

import (
	"context"
	"os"
	"os/signal"
	"sync"
	"syscall"
	"time"

	cri "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/mascri/mascri/internal/podview"
)

// Options say what is shown, and where.
type Options struct {
	In, Out    *os.File // a terminal
	Colour     bool
	Interval   time.Duration // between two samples
	Order      podview.Order
	Containers bool // show them at first
	// Sample asks the runtime. Its error is shown, and it is asked again.
	Sample func(context.Context) ([]*cri.PodSandboxStats, error)
}

// sample is what a runtime answered.
type sample struct {
	stats []*cri.PodSandboxStats
	err   error
}

// Run shows usage until its user quits, ctx ends, the terminal goes, or this process is
// asked to end by a signal; none of these is an error. The terminal is then as it was.
func Run(ctx context.Context, opts Options) error {
	ctx, stop := signal.NotifyContext(ctx, syscall.SIGHUP, syscall.SIGQUIT)
	defer stop()
	give, err := take(opts.In, opts.Out)
	if err != nil {
		return err
	}
	defer give()
	var running sync.WaitGroup
	defer running.Wait()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()

	resized := make(chan os.Signal, 1)
	signal.Notify(resized, syscall.SIGWINCH)
	defer signal.Stop(resized)
	typed, samples := make(chan key), make(chan sample)
	running.Go(func() { readKeys(ctx, opts.In, typed) })
	running.Go(func() { takeSamples(ctx, opts, samples) })
	return show(ctx, opts, typed, samples, resized)
}

// takeSamples asks at once and then at each interval.
func takeSamples(ctx context.Context, opts Options, samples chan<- sample) {
	next := time.NewTicker(opts.Interval)
	defer next.Stop()
	for {
		stats, err := opts.Sample(ctx)
		select {
		case samples <- sample{stats, err}:
		case <-ctx.Done():
			return
		}
		select {
		case <-next.C:
		case <-ctx.Done():
			return
		}
	}
}

func show(ctx context.Context, opts Options, typed <-chan key, samples <-chan sample, resized <-chan os.Signal) error {
	s := &screen{
		interval: opts.Interval, colour: opts.Colour, order: opts.Order, open: opts.Containers, turned: map[string]bool{},
	}
	var meter podview.Meter
	for {
		s.width, s.height = size(opts.Out)
		if err := draw(opts.Out, s.lines()); err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return nil
		case <-resized:
		case got := <-samples:
			if s.err = got.err; got.err == nil {
				s.update(meter.Read(got.stats))
			}
		case k, ok := <-typed:
			if !ok || s.press(k) {
				return nil
			}
		}
	}
}
