package enginetest

import (
	"context"
	"fmt"
	"slices"

	"github.com/containerd/errdefs"

	"github.com/mascri/mascri/internal/pod"
)

// Fault makes calls fail.
type Fault struct {
	Method string // "" is any
	// Call is which of the calls of Method fails: 1 is the next one, 0 each one.
	Call int
	// Done lets the call do its work before it fails: its answer is lost.
	Done bool
	Err  error // nil is ErrUnavailable

	seen int
}

// Fail adds a fault, in force until Heal.
func (m *machine) Fail(fault Fault) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.faults = append(m.faults, &fault)
}

// Heal takes all faults away.
func (m *machine) Heal() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.faults = nil
}

// Hold makes calls of method wait, until release is called or their context ends.
func (m *machine) Hold(method string) (release func()) {
	m.mu.Lock()
	defer m.mu.Unlock()
	gate := make(chan struct{})
	m.held[method] = gate
	return func() {
		m.mu.Lock()
		defer m.mu.Unlock()
		delete(m.held, method)
		close(gate)
	}
}

// Down takes the engine away: calls fail and hint streams end. Up brings it back with
// the containers it had.
func (m *machine) Down() {
	m.mu.Lock()
	defer m.mu.Unlock()
	close(m.down)
}

// Up ends Down.
func (m *machine) Up() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.down = make(chan struct{})
}

// Mute makes the engine lose hints, as a real one does to slow listeners.
func (m *machine) Mute(muted bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.muted = muted
}

// Emit gives a hint to every listener, whatever happened.
func (m *machine) Emit(hint pod.Hint) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for hints := range m.listeners {
		hints <- hint
	}
}

// SetFacts changes what Facts returns and what sandboxes are made by.
func (m *machine) SetFacts(facts pod.EngineFacts) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.facts = facts
}

// Calls returns the calls that began, such as "Start 00...01", in their order.
func (m *machine) Calls() []string {
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.Clone(m.calls)
}

// call does a call's work with mu held, or what else befalls the call: the end of its
// context, a missing engine, a fault.
func (m *machine) call(ctx context.Context, method, about string, work func() error) error {
	if err := m.begin(ctx, method, about); err != nil {
		return fmt.Errorf("%s %s: %w", method, about, err)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if isClosed(m.down) {
		return fmt.Errorf("%s %s: %w", method, about, unavailable())
	}
	fault := m.fault(method)
	if fault == nil {
		return work()
	}
	if fault.Done {
		if err := work(); err != nil {
			return err
		}
	}
	if fault.Err != nil {
		return fault.Err
	}
	return fmt.Errorf("%s %s: %w", method, about, unavailable())
}

// begin notes a call and waits while its method is held.
func (m *machine) begin(ctx context.Context, method, about string) error {
	m.mu.Lock()
	m.calls = append(m.calls, method+" "+about)
	gate := m.held[method]
	m.mu.Unlock()
	if gate == nil {
		return ctx.Err()
	}
	select {
	case <-gate:
		return ctx.Err()
	case <-ctx.Done():
		return ctx.Err()
	}
}

// fault counts a call of method and returns the fault that it meets. Callers hold mu.
func (m *machine) fault(method string) (met *Fault) {
	for _, f := range m.faults {
		if f.Method != "" && f.Method != method {
			continue
		}
		f.seen++
		if met == nil && (f.Call == 0 || f.Call == f.seen) {
			met = f
		}
	}
	return met
}

func isClosed(c <-chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}

func unavailable() error {
	return errdefs.ErrUnavailable.WithMessage("Docker Engine at unix:///fake.sock can't be reached: the test took it away; is it running?")
}
