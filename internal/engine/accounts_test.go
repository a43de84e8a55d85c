package engine_test

import (
	"context"
	"log/slog"
	"strings"
	"testing"

	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/client"

	"github.com/mascri/mascri/internal/engine"
	"github.com/mascri/mascri/internal/engine/enginetest"
	"github.com/mascri/mascri/internal/pod"
)

// What a crash in the middle of a look into an image left goes with the next connection;
// that of another instance stays.
func TestProbesOfAnEarlierLife(t *testing.T) {
	host := enginetest.Start(t, enginetest.Engine20, "--bridge=none", "--iptables=false")
	s := enginetest.Real(t, host)
	api, err := client.New(client.WithHost(host))
	if err != nil {
		t.Fatal(err)
	}
	defer api.Close()
	for _, instance := range []string{"ours", "other"} {
		labels, err := pod.ProbeLabels(instance)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := api.ContainerCreate(t.Context(), client.ContainerCreateOptions{Name: instance, Config: &container.Config{Image: s.Image, Labels: labels}}); err != nil {
			t.Fatal(err)
		}
	}
	e, err := engine.New(engine.Options{Host: host, Instance: "ours", Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	if ids, err := e.IDs(t.Context()); err != nil || len(ids) != 0 {
		t.Errorf("listed: %v, %v", ids, err)
	}
	if err := e.RemoveProbes(t.Context()); err != nil {
		t.Fatal(err)
	}
	list, err := api.ContainerList(context.WithoutCancel(t.Context()), client.ContainerListOptions{All: true})
	if err != nil {
		t.Fatal(err)
	}
	var left []string
	for _, c := range list.Items {
		left = append(left, c.Names...)
	}
	if strings.Join(left, " ") != "/other" {
		t.Errorf("left: %v, want /other", left)
	}
}
