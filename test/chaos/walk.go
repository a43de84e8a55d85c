package chaos

import (
	"math/rand/v2"
	"slices"
	"time"
)

// The walk of every run of the tests: one with each fault, in which what
// TestChaosFindsSeededBugs is for comes early.
const (
	UsualSeed  = 611
	UsualSteps = 150
)

// Walk is a random walk. It is for one goroutine.
type Walk struct {
	random *rand.Rand
	model  Model
	clock  time.Duration
}

// NewWalk begins the walk of a seed, on a node with Bridge and no pods.
func NewWalk(seed uint64) *Walk {
	w := &Walk{random: rand.New(rand.NewPCG(seed, 0))}
	w.model.Dir, w.model.InUse = Bridge, Bridge
	for i := range w.model.Pods {
		w.model.Pods[i].State = Absent
	}
	w.model.LiveRestore = w.chance(2)
	return w
}

// Model is what must be on the node now.
func (w *Walk) Model() Model { return w.model }

// Next returns the next step, and goes to what it leads to.
func (w *Walk) Next() Step {
	s := w.plan()
	w.model = w.model.After(s).Settled(s)
	return s
}

// weights are how often a fault is drawn. Those that cost every pod are rare, or no pod
// would live to see much.
var weights = []struct {
	fault Fault
	of    int
}{
	{None, 20}, {CrashDaemon, 18}, {KillDaemon, 10}, {RestartEngine, 3}, {KillEngine, 3}, {KillSandbox, 7},
	{RemoveSandbox, 5}, {EditConfig, 12}, {FailPlugin, 14}, {FillDisk, 12}, {JumpClock, 8},
}

func (w *Walk) plan() Step {
	for {
		if s, ok := w.try(w.fault()); ok {
			return s
		}
	}
}

func (w *Walk) fault() Fault {
	total := 0
	for _, weight := range weights {
		total += weight.of
	}
	at := w.random.IntN(total)
	for _, weight := range weights {
		if at -= weight.of; at < 0 {
			return weight.fault
		}
	}
	return None
}

// try makes a step with a fault. It is not ok where the node has nothing for it to hit.
func (w *Walk) try(fault Fault) (s Step, ok bool) {
	s = Step{Fault: fault}
	switch fault {
	case None:
		s.Requests = w.requests(1 + w.random.IntN(3))
		return s, true
	case CrashDaemon:
		return w.crash()
	case KillDaemon, RestartEngine, KillEngine:
		s.Requests = w.requests(w.random.IntN(4))
		s.After = w.moment()
		s.Restart = fault != KillDaemon && w.chance(3)
		return s, true
	case KillSandbox:
		return w.victim(s, Running)
	case RemoveSandbox:
		return w.victim(s, Running, Stopped)
	case EditConfig:
		return w.edit()
	case FailPlugin:
		return w.failPlugin()
	case FillDisk:
		s.Requests = w.requests(1 + w.random.IntN(2))
		s.Disk = pick(w, []Disk{StateDisk, StoreDisk, BothDisks})
		s.Pages = w.random.IntN(4) // a pod needs about as many
		s.Restart = w.chance(4)
	case JumpClock:
		s.Requests = w.requests(w.random.IntN(3))
		s.After = w.moment()
		s.Clock = w.otherClock()
	}
	return s, true
}

// moment is when a fault comes after the requests were sent, which take some hundred
// milliseconds.
func (w *Walk) moment() time.Duration {
	return time.Duration(w.random.IntN(300)) * time.Millisecond
}

func (w *Walk) otherClock() time.Duration {
	const day = 24 * time.Hour
	for {
		if c := pick(w, []time.Duration{0, 7 * time.Second, -7 * time.Second, time.Hour, -time.Hour, 400 * day, -400 * day}); c != w.clock {
			w.clock = c
			return c
		}
	}
}

func (w *Walk) victim(s Step, states ...State) (Step, bool) {
	pods := w.model.in(states...)
	if len(pods) == 0 {
		return s, false
	}
	s.Victim = pick(w, pods)
	return s, true
}

// edit returns to a network soon: where there is none, little can happen.
func (w *Walk) edit() (Step, bool) {
	choices := []Config{Bridge, Ports, Other}
	if w.model.Dir != Broken && w.model.Dir != Empty && w.chance(3) {
		choices = []Config{Broken, Empty}
	}
	s := Step{Fault: EditConfig, Config: pick(w, choices)}
	return s, s.Config != w.model.Dir
}

// The steps at which the daemon can die, in their order.
var (
	runSteps    = []string{"files", "create", "start", "inspect", "attach", "record", "pin", "add-start", "add-done", "complete", "hosts", "answer"}
	stopSteps   = []string{"stop-kill", "stop-detach", "detaching", "del-start", "del-done", "unpin", "stop-refresh"}
	removeSteps = []string{"remove", "remove-files"}
	undoSteps   = []string{"detaching", "del-start", "del-done", "unpin", "undo"}
)

// crash has requests that come by the step at which the daemon dies.
func (w *Walk) crash() (Step, bool) {
	s := Step{Fault: CrashDaemon, Requests: w.requests(1 + w.random.IntN(2))}
	var steps []string
	switch r := s.Requests[0]; {
	case r.Verb == Run && (r.HostNetwork || w.model.InUse == Empty):
		return s, false
	case r.Verb == Run:
		steps = runSteps
	case r.Verb == Remove && !w.model.Pods[r.Pod].Attached():
		steps = removeSteps
	case r.Verb == Remove:
		steps = slices.Concat(stopSteps, removeSteps)
	case !w.model.Pods[r.Pod].Attached():
		return s, false
	default:
		steps = stopSteps
	}
	s.At = pick(w, steps)
	return s, true
}

// failPlugin has a request that the failure hits, and with some the daemon dies while it
// cleans up. The daemon tries a failed DEL again at its start or after ten seconds, which
// is long.
func (w *Walk) failPlugin() (Step, bool) {
	s := Step{Fault: FailPlugin, Requests: w.requests(1), Restart: !w.chance(4)}
	r := s.Requests[0]
	switch {
	case r.Verb == Run && (r.HostNetwork || w.model.InUse == Empty), r.Verb != Run && !w.model.Pods[r.Pod].Attached():
		return s, false
	case r.Verb != Run:
		s.Plugin = DelFails
		return s, true
	}
	s.Plugin = pick(w, []Plugin{AddDies, AddLater, AddGarbage, AddHangs, BothFail})
	if s.Plugin == AddDies && w.chance(2) {
		s.At = pick(w, undoSteps)
	}
	return s, true
}

// requests are as many as given, or as there are pods for, each for another pod.
func (w *Walk) requests(most int) (list []Request) {
	pods := w.random.Perm(len(w.model.Pods))
	for _, pod := range pods[:most] {
		list = append(list, w.request(pod))
	}
	return list
}

func (w *Walk) request(pod int) Request {
	switch p := w.model.Pods[pod]; {
	case p.State == Absent:
		r := Request{Verb: Run, Pod: pod, HostNetwork: w.chance(10)}
		r.HostPort = !r.HostNetwork && w.model.InUse == Ports && w.chance(2)
		return r
	case p.State == Running && w.chance(2):
		return Request{Verb: Stop, Pod: pod}
	case p.State == Stopped && w.chance(10):
		return Request{Verb: Stop, Pod: pod}
	}
	return Request{Verb: Remove, Pod: pod}
}

// chance is true once in so many.
func (w *Walk) chance(in int) bool { return w.random.IntN(in) == 0 }

func pick[T any](w *Walk, list []T) T { return list[w.random.IntN(len(list))] }
