// Command bench measures MasCRI beside containerd's own CRI plugin, on this machine and
// with the same CNI plugins, config, images and pods:
//
//	make bench
//
// Every contestant has a node of its own: mount, network and pid namespaces with its
// engine in them. All nodes are up all the time, and they take turns, so that whatever
// else the machine does meets all alike; the ratios are what counts. The figures go to
// docs/benchmarks: latest.json has each sample, latest.md the tables.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"
)

const (
	startLimit = 3 * time.Minute // for engines, images, one pod everywhere
	limit      = time.Hour       // for all
)

// options are what a run may do more or less of.
type options struct {
	out         string
	contestants []string
	outside     []endpoint
	rounds      int    // of whole lives of pods
	widths      []int  // pods at once
	pods        []int  // that are there while lists are measured
	pollPods    []int  // while polling is
	lists       int    // rounds
	poll        int    // windows of ten seconds
	restarts    int    // rounds
	logs        int    // rounds
	logMB       int    // in a round
	image       string // file to write it to; instead of all else, if not empty
	soak        int    // whole lives of pods; instead of all else, if not 0
	kubelet     int    // pods of a kubelet; instead of all else, if not 0
}

func parse() (options, error) {
	var o options
	flag.StringVar(&o.out, "out", "docs/benchmarks", "`directory` of the results")
	names := flag.String("contestants", "containerd-2,mascri-28,mascri-20,mascri-28-default,plugins", "who takes part; containerd-1, containerd-2-crun and mascri-28-crun may, too")
	flag.Func("endpoint", "`name=socket` of a CRI runtime that runs already, to take part as well; may be repeated.\n"+
		"What can't be measured of it from outside is n/a. It must have the image that -image writes", func(text string) error {
		e, err := parseEndpoint(text)
		o.outside = append(o.outside, e)
		return err
	})
	flag.StringVar(&o.image, "image", "", "only write the workload's image to this `file`, in the form of docker save")
	flag.IntVar(&o.rounds, "rounds", 32, "whole lives of pods, one at a time")
	widths := flag.String("at-once", "8,32", "how many pods at once")
	pods := flag.String("pods", "10,100,250", "for how many pods lists are measured")
	pollPods := flag.String("poll-pods", "0,100,250", "for how many pods polling and memory are measured")
	flag.IntVar(&o.lists, "lists", 40, "rounds of lists for each number of pods")
	flag.IntVar(&o.poll, "poll", 30, "polling for each number of pods, in units of 10 s")
	flag.IntVar(&o.restarts, "restarts", 30, "restarts with the most pods")
	flag.IntVar(&o.logs, "logs", 30, "rounds of log lines")
	flag.IntVar(&o.logMB, "log-mb", 20, "megabytes of log lines in a round")
	flag.IntVar(&o.soak, "soak", 0, "measure nothing but what so many whole lives of pods leave behind")
	flag.IntVar(&o.kubelet, "kubelet", 0, "measure nothing but a kubelet with so many pods")
	flag.Parse()
	o.contestants = strings.Split(*names, ",")
	var err error
	if o.widths, err = numbers("at-once", *widths, 1); err != nil {
		return o, err
	}
	if o.pods, err = numbers("pods", *pods, 1); err != nil {
		return o, err
	}
	if o.pollPods, err = numbers("poll-pods", *pollPods, 0); err != nil {
		return o, err
	}
	for _, must := range []string{reference, subject} {
		if !slices.Contains(o.contestants, must) {
			return o, fmt.Errorf("-contestants: %s must be one of them", must)
		}
	}
	return o, nil
}

// numbers reads a list that is not empty.
func numbers(name, text string, least int) ([]int, error) {
	var found []int
	for word := range strings.SplitSeq(text, ",") {
		n, err := strconv.Atoi(word)
		if err != nil || n < least {
			return nil, fmt.Errorf("-%s: %q is not a number from %d on", name, word, least)
		}
		found = append(found, n)
	}
	return found, nil
}

func main() {
	// The kernel ends the nodes when the thread that started them does: this one.
	runtime.LockOSThread()
	o, err := parse()
	if err == nil {
		err = os.MkdirAll(o.out, 0o755) // before anything is measured
	}
	if err == nil {
		ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
		defer stop()
		switch {
		case o.image != "":
			err = writeShellImage(o.image)
		case o.soak > 0:
			err = soak(ctx, o)
		case o.kubelet > 0:
			err = measureKubelets(ctx, o)
		default:
			err = bench(ctx, o)
		}
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1) //nolint:forbidigo // this is a command
	}
}

// bench must be called with the repository as the working directory.
func bench(ctx context.Context, o options) error {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	place, err := newPlace()
	if err != nil {
		return err
	}
	defer place.clear()
	result := results{Machine: describe(place.repo), Measures: measures}
	startCtx, cancelStart := context.WithTimeout(ctx, startLimit)
	defer cancelStart()
	contestants, err := place.contestants(startCtx, o.contestants)
	if err != nil {
		return err
	}
	outside, leave, err := place.outside(startCtx, o.outside)
	if err != nil {
		return err
	}
	defer leave()
	contestants = append(contestants, outside...)
	for _, c := range contestants {
		result.Contestants = append(result.Contestants, c.about)
	}
	return result.collect(ctx, o.out, []phase{
		{"pods", func() ([]sample, []process, error) {
			samples, err := latency(ctx, contestants, o.rounds, o.widths)
			return samples, nil, err
		}},
		{"logs", func() ([]sample, []process, error) {
			samples, err := writing(ctx, whole(contestants), o.logs, o.logMB)
			return samples, nil, err
		}},
		{"many pods", func() ([]sample, []process, error) { return density(ctx, whole(contestants), o) }},
	}, func() error { return tidy(ctx, whole(contestants)) })
}
