// Command bench times pods on MasCRI beside pods on containerd's own CRI plugin, on
// this machine and with the same CNI plugins and config:
//
//	make bench
//
// Every contestant has a node of its own: mount, network and pid namespaces with its
// engine in them. All nodes are up all the time, and their samples alternate, so that
// whatever else the machine does meets all alike; the ratios are what counts. The
// figures go to docs/benchmarks: latest.json has each sample, latest.md the tables.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"runtime"
	"syscall"
	"time"
)

// startLimit bounds the preparations: engines, images, one pod everywhere.
const startLimit = 2 * time.Minute

func main() {
	// The kernel ends the nodes when the thread that started them does: this one.
	runtime.LockOSThread()
	length := flag.Duration("for", 4*time.Minute, "how long to take samples")
	out := flag.String("out", "docs/benchmarks", "directory of the results")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	if err := bench(ctx, *length, *out); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1) //nolint:forbidigo // this is a command
	}
}

// bench must be called with the repository as the working directory.
func bench(ctx context.Context, length time.Duration, out string) (err error) {
	repo, err := filepath.Abs(".")
	if err != nil {
		return err
	}
	place, err := newPlace(repo)
	if err != nil {
		return err
	}
	defer place.clear()
	result := results{Machine: describe(repo)}
	startCtx, cancel := context.WithTimeout(ctx, startLimit)
	defer cancel()
	contestants, err := place.contestants(startCtx)
	if err != nil {
		return err
	}
	measureCtx, cancelMeasure := context.WithTimeout(ctx, length+2*time.Minute)
	defer cancelMeasure()
	if result.Samples, err = measure(measureCtx, contestants, length); err != nil {
		return err
	}
	result.Machine.LoadAfter = loadAverage()
	for _, c := range contestants {
		result.Contestants = append(result.Contestants, c.about)
	}
	return result.write(out)
}
