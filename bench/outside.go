package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"time"

	cri "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// endpoint is a CRI runtime that runs already.
type endpoint struct{ name, socket string }

var endpointName = regexp.MustCompile(`^[a-z0-9][a-z0-9.-]*$`)

func parseEndpoint(text string) (endpoint, error) {
	name, socket, found := strings.Cut(text, "=")
	socket = strings.TrimPrefix(socket, "unix://")
	if !found || !endpointName.MatchString(name) || !filepath.IsAbs(socket) {
		return endpoint{}, fmt.Errorf("%q is not name=/path/of/its.sock", text)
	}
	return endpoint{name, socket}, nil
}

// outsideNever are the measures that need the processes, which are not known of a runtime
// that this program did not start.
var outsideNever = []string{pollCPU, memory, memoryPod, restart, logCPU}

// leaveLimit is how long the pods at outside endpoints may take to be removed.
const leaveLimit = 5 * time.Minute

// outside makes contestants of runtimes that run already. leave removes their pods: they
// don't go with a node, as those of all others do.
func (p *place) outside(ctx context.Context, endpoints []endpoint) (contestants []contestant, leave func(), err error) {
	leave = func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), leaveLimit)
		defer cancel()
		for _, c := range contestants {
			if err := c.pods.removeAll(ctx); err != nil {
				fmt.Fprintf(os.Stderr, "bench: clean up %s: %v\n", c.Name, err)
			}
		}
	}
	for _, e := range endpoints {
		fmt.Fprintf(os.Stderr, "asking %s\n", e.name)
		c, err := p.outsider(ctx, e)
		if err != nil {
			leave()
			return nil, nil, fmt.Errorf("%s: %w", e.name, err)
		}
		contestants = append(contestants, c)
	}
	return contestants, leave, nil
}

func (p *place) outsider(ctx context.Context, e endpoint) (contestant, error) {
	dir := filepath.Join(p.dir, e.name)
	if err := os.Mkdir(dir, 0o755); err != nil {
		return contestant{}, fmt.Errorf("another contestant has that name: %w", err)
	}
	pods, err := newPods(e.socket, dir)
	if err != nil {
		return contestant{}, err
	}
	version, err := pods.client.Version(ctx, &cri.VersionRequest{})
	if err != nil {
		return contestant{}, err
	}
	image, err := cri.NewImageServiceClient(pods.conn).ImageStatus(ctx, &cri.ImageStatusRequest{Image: &cri.ImageSpec{Image: shellImage}})
	if err != nil {
		return contestant{}, err
	}
	if image.GetImage() == nil {
		return contestant{}, fmt.Errorf("it has no image %s: bring it what -image FILE writes, as by \"ctr -n k8s.io images import FILE\"", shellImage)
	}
	if err := pods.removeAll(ctx); err != nil { // of a run that was killed
		return contestant{}, err
	}
	if err := pods.first(ctx); err != nil {
		return contestant{}, errors.Join(err, pods.removeAll(ctx))
	}
	title := e.name + " (" + version.GetRuntimeName() + " " + plain(version.GetRuntimeVersion()) + ")"
	return contestant{about{Name: e.name, Title: title, Pods: true, NotMeasured: outsideNever}, pods, pods}, nil
}

// removeAll removes every pod that this program made at the endpoint.
func (r *pods) removeAll(ctx context.Context) error {
	listed, err := r.client.ListPodSandbox(ctx, &cri.ListPodSandboxRequest{Filter: &cri.PodSandboxFilter{LabelSelector: podLabels}})
	if err != nil {
		return err
	}
	var errs []error
	for _, pod := range listed.GetItems() {
		t := &thing{id: pod.GetId()}
		errs = append(errs, r.stopSandbox(ctx, t), r.removeSandbox(ctx, t))
	}
	return errors.Join(errs...)
}
