package cri

import (
	"context"
	"errors"
	"log/slog"
	"testing"
	"testing/synctest"
	"time"

	cri "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// A request that comes while a flight nobody waits for any more is cleaning up waits
// for that, and then flies itself.
func TestDoomedFlightIsNotJoined(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFlights(slog.New(slog.DiscardHandler))
		request := &cri.RunPodSandboxRequest{}
		cleaned := make(chan struct{})
		ctx, giveUp := context.WithCancel(t.Context())
		first := make(chan error, 1)
		go func() {
			_, err := f.do(ctx, "a", request, func(ctx context.Context) (string, error) {
				<-ctx.Done()
				<-cleaned
				return "", ctx.Err()
			})
			first <- err
		}()
		synctest.Wait()
		giveUp()
		if err := <-first; !errors.Is(err, context.Canceled) {
			t.Fatalf("first: %v", err)
		}
		second := make(chan string, 1)
		go func() {
			id, err := f.do(t.Context(), "a", request, func(context.Context) (string, error) { return "new", nil })
			if err != nil {
				t.Error(err)
			}
			second <- id
		}()
		synctest.Wait()
		select {
		case id := <-second:
			t.Fatalf("the second one did not wait: %q", id)
		default:
		}
		close(cleaned)
		if id := <-second; id != "new" {
			t.Errorf("second: %q", id)
		}
	})
}

// Who joins a flight does not suffer from the first caller's deadline: it flies again.
func TestJoinerOutlivesTheFirstDeadline(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFlights(slog.New(slog.DiscardHandler))
		request := &cri.RunPodSandboxRequest{}
		flown := 0
		fly := func(ctx context.Context) (string, error) {
			if flown++; flown == 1 {
				<-ctx.Done()
				return "", ctx.Err()
			}
			return "id", nil
		}
		short, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		first := make(chan error, 1)
		go func() { _, err := f.do(short, "a", request, fly); first <- err }()
		synctest.Wait()
		if id, err := f.do(t.Context(), "a", request, fly); err != nil || id != "id" {
			t.Errorf("the joiner got %q, %v", id, err)
		}
		if err := <-first; !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("the first one got %v", err)
		}
	})
}

// A success that came when the last caller had just gone is the next one's, once, and
// only for the same request.
func TestUnclaimedFlight(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFlights(slog.New(slog.DiscardHandler))
		request := &cri.RunPodSandboxRequest{RuntimeHandler: "a"}
		ctx, giveUp := context.WithCancel(t.Context())
		// The flight does not look at its context: it succeeds all the same.
		if _, err := f.do(ctx, "a", request, func(context.Context) (string, error) { giveUp(); return "id", nil }); !errors.Is(err, context.Canceled) {
			t.Fatalf("the caller whose context ended got %v", err)
		}
		synctest.Wait()
		if id, ok := f.claim("a", &cri.RunPodSandboxRequest{RuntimeHandler: "b"}); ok {
			t.Errorf("another request got %q", id)
		}
		if id, ok := f.claim("a", request); !ok || id != "id" {
			t.Errorf("the same request got %q, %v", id, ok)
		}
		if id, ok := f.claim("a", request); ok {
			t.Errorf("it was claimed twice: %q", id)
		}
	})
}

// An answer that was heard is not unclaimed.
func TestHeardFlight(t *testing.T) {
	f := newFlights(slog.New(slog.DiscardHandler))
	request := &cri.RunPodSandboxRequest{}
	if id, err := f.do(t.Context(), "a", request, func(context.Context) (string, error) { return "id", nil }); err != nil || id != "id" {
		t.Fatal(id, err)
	}
	if id, ok := f.claim("a", request); ok {
		t.Errorf("claimed %q", id)
	}
	if f.flies("a") {
		t.Error("it flies on")
	}
}

func TestPanicInFlight(t *testing.T) {
	f := newFlights(slog.New(slog.DiscardHandler))
	if _, err := f.do(t.Context(), "a", &cri.RunPodSandboxRequest{}, func(context.Context) (string, error) { panic("boom") }); err == nil {
		t.Error("no error")
	}
}
