package enginetest

import (
	"fmt"
	"path/filepath"
	"sync"
	"time"

	"github.com/moby/moby/api/types/container"

	"github.com/mascri/mascri/internal/engine/translate"
	"github.com/mascri/mascri/internal/pod"
)

// machine is the engine itself, shared by all views of it.
type machine struct {
	mu         sync.Mutex // guards all following fields
	facts      pod.EngineFacts
	images     map[string]*pod.Image    // by id
	registries map[string]*fakeRegistry // by host
	containers map[string]*fakeContainer
	made       int // containers and processes so far
	listeners  map[chan pod.Hint]string
	muted      bool
	down       chan struct{} // closed while the engine is down
	faults     []*Fault
	held       map[string]chan struct{} // by method
	calls      []string
}

// fakeContainer is a container of any kind. The sandbox's fields are what all kinds have.
type fakeContainer struct {
	pod.Sandbox
	workload *pod.Container // what a workload container alone has; nil for other kinds
	program  program
	limits   container.Resources // of a workload container
	ended    chan struct{}       // closed when the process ends; nil before the first start
}

// item returns a value that shares nothing with c that changes.
func (c *fakeContainer) item() pod.Item {
	sandbox := c.Sandbox
	if c.workload == nil {
		return pod.Item{Sandbox: &sandbox}
	}
	workload := *c.workload
	workload.ID, workload.Name, workload.Instance, workload.Image = c.ID, c.Name, c.Instance, c.Image
	workload.CreatedAt, workload.StartedAt, workload.FinishedAt = c.CreatedAt, c.StartedAt, c.FinishedAt
	workload.Running, workload.PID, workload.ExitCode = c.Running, c.PID, c.ExitCode
	workload.Resources = translate.ResourcesInForce(&container.HostConfig{Resources: c.limits, OomScoreAdj: int(c.workload.Resources.GetOomScoreAdj())})
	return pod.Item{Container: &workload}
}

// find returns nil for what does not exist. Callers hold mu.
func (m *machine) find(idOrName string) *fakeContainer {
	if c := m.containers[idOrName]; c != nil {
		return c
	}
	for _, c := range m.containers {
		if c.Name == idOrName {
			return c
		}
	}
	return nil
}

// create adds a container; one whose labels don't decode, or are a probe's, has no instance. Callers hold mu.
func (m *machine) create(name, image string, labels map[string]string) *fakeContainer {
	m.made++
	label, err := pod.DecodeLabels(labels)
	if err != nil || label.Kind == pod.KindProbe {
		label = pod.Decoded{}
	}
	c := &fakeContainer{Sandbox: pod.Sandbox{
		ID: fmt.Sprintf("%064x", m.made), Name: name, Image: image, CreatedAt: time.Now(),
		Instance: label.Instance, Config: label.Config, RuntimeHandler: label.RuntimeHandler,
	}}
	if label.Kind == pod.KindContainer {
		c.workload = &pod.Container{Fixed: label.Container, LogSource: filepath.Join(m.facts.RootDir, "containers", c.ID)}
	}
	m.containers[c.ID] = c
	m.tell(c, pod.HintChanged)
	return c
}

// run starts a container that does not run. Callers hold mu.
func (m *machine) run(c *fakeContainer) {
	if c.Running {
		return
	}
	m.made++
	c.Running, c.StartedAt, c.ExitCode = true, time.Now(), 0
	c.PID, c.NetnsInode = 1_000_000+m.made, 4_000_000_000+uint64(m.made)
	c.ended = make(chan struct{})
	m.tell(c, pod.HintChanged)
}

// end ends a container's process. Callers hold mu.
func (m *machine) end(c *fakeContainer, code int) {
	if !c.Running {
		return
	}
	c.Running, c.FinishedAt, c.ExitCode, c.PID, c.NetnsInode = false, time.Now(), code, 0, 0
	close(c.ended)
	m.tell(c, pod.HintChanged)
}

// remove removes a container, running or not. Callers hold mu.
func (m *machine) remove(c *fakeContainer) {
	m.end(c, 137)
	delete(m.containers, c.ID)
	m.tell(c, pod.HintGone)
}

// tell gives a hint to the listeners of c's instance. Callers hold mu.
func (m *machine) tell(c *fakeContainer, kind pod.HintKind) {
	for hints, instance := range m.listeners {
		if instance == c.Instance && !m.muted {
			hints <- pod.Hint{Kind: kind, ID: c.ID}
		}
	}
}

// state is a container's in docker ps's words.
func state(c *fakeContainer) string {
	switch {
	case c.Running:
		return "running"
	case c.StartedAt.IsZero():
		return "created"
	}
	return "exited"
}
