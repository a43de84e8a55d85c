package chaos

import (
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func steps(seed uint64, n int) (list []Step) {
	w := NewWalk(seed)
	for range n {
		list = append(list, w.Next())
	}
	return list
}

func TestASeedIsAWalk(t *testing.T) {
	if diff := cmp.Diff(steps(7, 300), steps(7, 300)); diff != "" {
		t.Errorf("another time (-first +second):\n%s", diff)
	}
	if diff := cmp.Diff(steps(7, 300)[:100], steps(7, 100)); diff != "" {
		t.Errorf("a shorter walk is not the beginning of a longer one (-longer +shorter):\n%s", diff)
	}
	if cmp.Equal(steps(7, 20), steps(8, 20)) {
		t.Error("two seeds are one walk")
	}
}

// Nothing is asked of a node that a client would not, and each fault can hit something.
func TestStepsFitTheNode(t *testing.T) {
	for seed := range uint64(200) {
		w := NewWalk(seed)
		for i := range 500 {
			m := w.Model()
			if len(m.in(Doubt)) > 0 {
				t.Fatalf("seed %d: in doubt before step %d: %+v", seed, i, m)
			}
			s := w.Next()
			asked := map[int]bool{}
			for _, r := range s.Requests {
				absent := m.Pods[r.Pod].State == Absent
				if asked[r.Pod] || (r.Verb == Run) != absent || r.HostPort && m.InUse != Ports {
					t.Fatalf("seed %d, step %d: %s, on %+v", seed, i, s, m)
				}
				asked[r.Pod] = true
			}
			fits := true
			switch s.Fault {
			case CrashDaemon, FailPlugin:
				fits = len(s.Requests) > 0
			case KillSandbox:
				fits = m.Pods[s.Victim].State == Running
			case RemoveSandbox:
				fits = m.Pods[s.Victim].State != Absent
			case EditConfig:
				fits = s.Config != m.Dir
			}
			if !fits {
				t.Fatalf("seed %d, step %d: %s, on %+v", seed, i, s, m)
			}
		}
	}
}

func TestTheUsualWalkHasEachFault(t *testing.T) {
	list := steps(UsualSeed, UsualSteps)
	for _, fault := range append([]Fault{None}, Faults...) {
		if !slices.ContainsFunc(list, func(s Step) bool { return s.Fault == fault }) {
			t.Errorf("no %s in %d steps", fault, UsualSteps)
		}
	}
	for _, plugin := range []Plugin{AddDies, AddLater, AddGarbage, AddHangs, DelFails, BothFail} {
		if !slices.ContainsFunc(list, func(s Step) bool { return s.Plugin == plugin }) {
			t.Errorf("no plugin that fails as: %s", plugin)
		}
	}
}

func TestWhatStepsLeadTo(t *testing.T) {
	start := NewWalk(1).Model()
	start.LiveRestore = false
	start.Pods[0] = Pod{State: Running}
	with := func(change func(*Model)) Model { m := start; change(&m); return m }
	run, stop := []Request{{Verb: Run, Pod: 1}}, []Request{{Verb: Stop, Pod: 0}}
	for name, tt := range map[string]struct {
		from           Model
		step           Step
		after, settled Model
	}{
		"a pod runs": {start, Step{Fault: None, Requests: run},
			with(func(m *Model) { m.Pods[1].State = Running }), with(func(m *Model) { m.Pods[1].State = Running })},
		"a crash before the attachment is complete leaves nothing": {start, Step{Fault: CrashDaemon, At: "add-done", Requests: run}, start, start},
		"a crash while the engine starts it may leave it": {start, Step{Fault: CrashDaemon, At: "complete", Requests: run},
			with(func(m *Model) { m.Pods[1].State = Doubt }), start},
		"a crash after that leaves the pod": {start, Step{Fault: CrashDaemon, At: "hosts", Requests: run},
			with(func(m *Model) { m.Pods[1].State = Running }), with(func(m *Model) { m.Pods[1].State = Running })},
		"what nobody was told of is removed": {start, Step{Fault: KillDaemon, Requests: run}, with(func(m *Model) { m.Pods[1].State = Doubt }), start},
		"a stop without an answer is asked for again": {start, Step{Fault: KillDaemon, Requests: stop},
			with(func(m *Model) { m.Pods[0].State = Doubt }), with(func(m *Model) { m.Pods[0].State = Stopped })},
		"an engine takes the pods with it": {start, Step{Fault: KillEngine},
			with(func(m *Model) { m.Pods[0].State = Stopped }), with(func(m *Model) { m.Pods[0].State = Stopped })},
		"an engine with live-restore does not": {with(func(m *Model) { m.LiveRestore = true }), Step{Fault: KillEngine},
			with(func(m *Model) { m.LiveRestore = true }), with(func(m *Model) { m.LiveRestore = true })},
		"a damaged config leaves the old one in use": {start, Step{Fault: EditConfig, Config: Broken},
			with(func(m *Model) { m.Dir = Broken }), with(func(m *Model) { m.Dir = Broken })},
		"but not after a start": {with(func(m *Model) { m.Dir = Broken }), Step{Fault: KillDaemon},
			with(func(m *Model) { m.Dir, m.InUse = Broken, Empty }), with(func(m *Model) { m.Dir, m.InUse = Broken, Empty })},
		"a failed ADD leaves nothing": {start, Step{Fault: FailPlugin, Plugin: AddDies, Requests: run}, start, start},
		"a failed DEL does not keep a pod": {start, Step{Fault: FailPlugin, Plugin: DelFails, Requests: stop},
			with(func(m *Model) { m.Pods[0].State = Stopped }), with(func(m *Model) { m.Pods[0].State = Stopped })},
	} {
		t.Run(name, func(t *testing.T) {
			after := tt.from.After(tt.step)
			if diff := cmp.Diff(tt.after, after); diff != "" {
				t.Errorf("after (-want +got):\n%s", diff)
			}
			if diff := cmp.Diff(tt.settled, after.Settled(tt.step)); diff != "" {
				t.Errorf("settled (-want +got):\n%s", diff)
			}
		})
	}
}
