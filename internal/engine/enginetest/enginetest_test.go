package enginetest

import (
	"testing"
)

func TestFakeKeepsTheContract(t *testing.T) {
	Contract(t, func(t *testing.T) Subject {
		f := NewFake(t, "ours")
		return Subject{
			Instance: "ours", Engine: f, As: func(instance string) Engine { return f.View(instance) },
			User: f.User(), Line: fakeLine{f}, Image: FakeImage,
		}
	})
}

// fakeLine loses an answer by a fault.
type fakeLine struct{ *Fake }

func (l fakeLine) LoseAnswer(method string) { l.Fail(Fault{Method: method, Call: 1, Done: true}) }
