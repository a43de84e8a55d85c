package enginetest

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"

	"github.com/containerd/errdefs"
	"github.com/google/go-cmp/cmp"

	"github.com/mascri/mascri/internal/pod"
	"github.com/mascri/mascri/test/registry"
)

func newSubject(t *testing.T) (Subject, *Fake) {
	f := NewFake(t, "ours")
	const user = "sha256:0000000000000000000000000000000000000000000000000000000000000002"
	f.AddImage(user, UserImageRef, userOfImage)
	return Subject{
		Instance: "ours", Engine: f, As: func(instance string) Engine { return f.View(instance) },
		User: f.User(), Line: fakeLine{f}, Image: FakeImage, UserImage: user, Files: Files(t),
		Registry: func(_ *testing.T, login registry.Login) Registry { return f.Registry(login) },
	}, f
}

// fakeLine loses an answer by a fault.
type fakeLine struct{ *Fake }

func (l fakeLine) LoseAnswer(method string) { l.Fail(Fault{Method: method, Call: 1, Done: true}) }

func TestFakeKeepsTheContract(t *testing.T) {
	fake := func(t *testing.T) Subject { s, _ := newSubject(t); return s }
	Contract(t, fake)
	ContainerContract(t, fake)
	ImageContract(t, fake)
}

func TestFakeFailsAsTold(t *testing.T) {
	s, f := newSubject(t)
	own := errors.New("own")
	f.Fail(Fault{Method: "Start", Call: 2, Err: own})
	a, b, c := s.create(t, "a"), s.create(t, "b"), s.create(t, "c")
	if err := f.Start(t.Context(), a); err != nil {
		t.Errorf("first start: %v", err)
	}
	if err := f.Start(t.Context(), b); !errors.Is(err, own) {
		t.Errorf("second start: %v, want %v", err, own)
	}
	if err := f.Start(t.Context(), c); err != nil {
		t.Errorf("third start: %v", err)
	}
	f.Fail(Fault{})
	for range 2 {
		if err := f.Ping(t.Context()); !errors.Is(err, errdefs.ErrUnavailable) {
			t.Errorf("ping: %v, want Unavailable", err)
		}
	}
	f.Heal()
	if err := f.Kill(t.Context(), c); err != nil {
		t.Errorf("kill after healing: %v", err)
	}
	s.User.Run(t, "nginx", nil)
	want := `k8s_POD_a running exit=0 instance=ours
k8s_POD_b created exit=0 instance=ours
k8s_POD_c exited exit=137 instance=ours
nginx running exit=0 foreign
`
	if diff := cmp.Diff(want, f.String()); diff != "" {
		t.Errorf("state (-want +got):\n%s", diff)
	}
	wantCalls := []string{"CreateSandbox k8s_POD_a", "CreateSandbox k8s_POD_b", "CreateSandbox k8s_POD_c",
		"Start " + a, "Start " + b, "Start " + c, "Ping ", "Ping ", "Kill " + c}
	if diff := cmp.Diff(wantCalls, f.Calls()); diff != "" {
		t.Errorf("calls (-want +got):\n%s", diff)
	}
}

func TestFakeHoldsCalls(t *testing.T) {
	_, f := newSubject(t)
	synctest.Test(t, func(t *testing.T) {
		release := f.Hold("Ping")
		ctx, cancel := context.WithCancel(t.Context())
		given, held := make(chan error, 1), make(chan error, 1)
		go func() { given <- f.Ping(ctx) }()
		go func() { held <- f.Ping(t.Context()) }()
		synctest.Wait()
		if _, err := f.Facts(t.Context()); err != nil {
			t.Errorf("facts while ping is held: %v", err)
		}
		cancel()
		if err := <-given; !errors.Is(err, context.Canceled) {
			t.Errorf("held ping whose context ended: %v", err)
		}
		select {
		case err := <-held:
			t.Errorf("held ping returned %v", err)
		default:
		}
		release()
		if err := <-held; err != nil {
			t.Errorf("released ping: %v", err)
		}
	})
}

func TestFakeLosesHints(t *testing.T) {
	s, f := newSubject(t)
	hints := watch(t, s)
	f.Mute(true)
	s.create(t, "a")
	f.Mute(false)
	f.Emit(pod.Hint{Kind: pod.HintGone, ID: "x"})
	if got := next(t, hints); got.ID != "x" {
		t.Errorf("hint %v of a time when none were told", got)
	}
}
