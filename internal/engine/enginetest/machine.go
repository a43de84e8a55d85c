package enginetest

import (
	"fmt"
	"sync"
	"time"

	"github.com/mascri/mascri/internal/pod"
)

// machine is the engine itself, shared by all views of it.
type machine struct {
	mu         sync.Mutex // guards all following fields
	facts      pod.EngineFacts
	images     map[string]*pod.Image    // by id
	registries map[string]*fakeRegistry // by host
	containers map[string]*pod.Sandbox
	made       int // containers and processes so far
	listeners  map[chan pod.Hint]string
	muted      bool
	down       chan struct{} // closed while the engine is down
	faults     []*Fault
	held       map[string]chan struct{} // by method
	calls      []string
}

// find returns nil for what does not exist. Callers hold mu.
func (m *machine) find(idOrName string) *pod.Sandbox {
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

// create adds a container; one whose labels don't decode has no instance. Callers hold mu.
func (m *machine) create(name, image string, labels map[string]string) string {
	m.made++
	id := fmt.Sprintf("%064x", m.made)
	label, err := pod.DecodeLabels(labels)
	if err != nil {
		label = pod.Decoded{}
	}
	m.containers[id] = &pod.Sandbox{
		ID: id, Name: name, Image: image, CreatedAt: time.Now(),
		Instance: label.Instance, Config: label.Config, RuntimeHandler: label.RuntimeHandler,
	}
	m.tell(m.containers[id], pod.HintChanged)
	return id
}

// run starts a container that does not run. Callers hold mu.
func (m *machine) run(c *pod.Sandbox) {
	if c.Running {
		return
	}
	m.made++
	c.Running, c.StartedAt, c.ExitCode = true, time.Now(), 0
	c.PID, c.NetnsInode = 1_000_000+m.made, 4_000_000_000+uint64(m.made)
	m.tell(c, pod.HintChanged)
}

// end ends a container's process. Callers hold mu.
func (m *machine) end(c *pod.Sandbox, code int) {
	if !c.Running {
		return
	}
	c.Running, c.FinishedAt, c.ExitCode, c.PID, c.NetnsInode = false, time.Now(), code, 0, 0
	m.tell(c, pod.HintChanged)
}

// remove removes a container, running or not. Callers hold mu.
func (m *machine) remove(c *pod.Sandbox) {
	m.end(c, 137)
	delete(m.containers, c.ID)
	m.tell(c, pod.HintGone)
}

// tell gives a hint to the listeners of c's instance. Callers hold mu.
func (m *machine) tell(c *pod.Sandbox, kind pod.HintKind) {
	for hints, instance := range m.listeners {
		if instance == c.Instance && !m.muted {
			hints <- pod.Hint{Kind: kind, ID: c.ID}
		}
	}
}

// state is a container's in docker ps's words.
func state(c pod.Sandbox) string {
	switch {
	case c.Running:
		return "running"
	case c.FinishedAt.IsZero():
		return "created"
	}
	return "exited"
}
