package chaos

import "slices"

// State is that of a pod.
type State string

// The states. A pod in Doubt may be in any: who asked for something got no answer, and has
// to ask again, or to remove what came of it.
const (
	Absent  State = "absent"
	Running State = "running"
	Stopped State = "stopped"
	Doubt   State = "in doubt"
)

// Pod is what the contract says of a pod.
type Pod struct {
	State       State
	HostNetwork bool
	HostPort    bool
}

// Attached tells whether it must have a place on a network.
func (p Pod) Attached() bool { return p.State == Running && !p.HostNetwork }

// Model is what must be on the node between two steps. It is a value.
type Model struct {
	Pods        [8]Pod
	Dir         Config // what the config directory holds
	InUse       Config // what new pods are attached to; Empty: they are refused
	LiveRestore bool   // sandboxes outlive the engine
}

// At the steps of RunPodSandbox in complete, a daemon that dies has only its answer to give:
// the sandbox is kept. At those in maybe, it depends on how far the engine is, which starts
// the sandbox meanwhile.
var (
	complete = []string{"hosts", "answer"}
	maybe    = []string{"complete", "inspect"}
)

// After is what a step leads to, once the faults are over and before anyone asks again.
func (m Model) After(s Step) Model {
	for _, r := range s.Requests {
		m.Pods[r.Pod] = m.answered(s, r)
	}
	switch s.Fault {
	case CrashDaemon, KillDaemon:
		m.InUse = m.reread()
	case RestartEngine, KillEngine:
		if !m.LiveRestore {
			m = m.engineDied()
		}
	case KillSandbox:
		m.Pods[s.Victim].State = Stopped
	case RemoveSandbox:
		m.Pods[s.Victim] = Pod{State: Absent}
	case EditConfig:
		m.Dir = s.Config
		if s.Config != Broken { // an edit in progress must not move pods
			m.InUse = s.Config
		}
	}
	if s.Restart || s.Fault == FailPlugin && s.At != "" {
		m.InUse = m.reread()
	}
	return m
}

// Settled is what there is once all that was in doubt has been asked for again: what was
// to run is removed, as nobody knows of it.
func (m Model) Settled(s Step) Model {
	for _, r := range s.Requests {
		switch p := &m.Pods[r.Pod]; {
		case p.State != Doubt:
		case r.Verb == Stop:
			p.State = Stopped
		default:
			*p = Pod{State: Absent}
		}
	}
	return m
}

// answered is the state of a pod after a request of the step.
func (m Model) answered(s Step, r Request) Pod {
	p := m.Pods[r.Pod]
	switch r.Verb {
	case Run:
		p = Pod{State: Running, HostNetwork: r.HostNetwork, HostPort: r.HostPort}
	case Stop:
		p.State = Stopped
	case Remove:
		p = Pod{State: Absent}
	}
	switch {
	case s.Fault == RestartEngine || s.Fault == KillEngine: // even of one that is refused: its container may stay
		p.State = Doubt
	case r.Verb == Run && !r.HostNetwork && m.InUse == Empty:
		return Pod{State: Absent} // refused
	case s.Fault == FailPlugin && r.Verb == Run && !r.HostNetwork && s.Plugin != DelFails:
		return Pod{State: Absent}
	case s.Fault == CrashDaemon && len(s.Requests) == 1 && r.Verb == Run && !slices.Contains(maybe, s.At):
		if !slices.Contains(complete, s.At) {
			return Pod{State: Absent}
		}
		return p
	case slices.Contains([]Fault{CrashDaemon, KillDaemon, FillDisk}, s.Fault):
		p.State = Doubt
	}
	return p
}

// reread is what a daemon that starts finds in the config directory.
func (m Model) reread() Config {
	if m.Dir == Broken {
		return Empty
	}
	return m.Dir
}

func (m Model) engineDied() Model {
	for i := range m.Pods {
		if m.Pods[i].State == Running {
			m.Pods[i].State = Stopped
		}
	}
	return m
}

// in returns the pods that are in one of the states.
func (m Model) in(states ...State) (pods []int) {
	for i, p := range m.Pods {
		if slices.Contains(states, p.State) {
			pods = append(pods, i)
		}
	}
	return pods
}
