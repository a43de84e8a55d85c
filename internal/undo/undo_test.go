package undo_test

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/mascri/mascri/internal/undo"
)

func TestRunUndoesAllInReverse(t *testing.T) {
	var s undo.Stack
	var ran []string
	boom := errors.New("boom")
	for _, name := range []string{"create", "start", "attach"} {
		s.Push(name, func(context.Context) error {
			ran = append(ran, name)
			if name == "start" {
				return boom
			}
			return nil
		})
	}
	err := s.Run(t.Context(), time.Minute)
	if want := []string{"attach", "start", "create"}; !slices.Equal(ran, want) {
		t.Errorf("ran %v, want %v", ran, want)
	}
	if !errors.Is(err, boom) || !strings.Contains(err.Error(), "undo start") {
		t.Errorf("error %v does not name the step that failed", err)
	}
	if err := s.Run(t.Context(), time.Minute); err != nil || len(ran) != 3 {
		t.Errorf("a second Run ran steps again: %v, %v", ran, err)
	}
}

func TestRunOutlivesTheRequest(t *testing.T) {
	type key struct{}
	ctx, cancel := context.WithCancel(context.WithValue(t.Context(), key{}, "value"))
	cancel()
	var s undo.Stack
	s.Push("step", func(ctx context.Context) error {
		if ctx.Err() != nil {
			t.Errorf("context ended: %v", ctx.Err())
		}
		if ctx.Value(key{}) != "value" {
			t.Error("the request's values are gone")
		}
		if _, ok := ctx.Deadline(); !ok {
			t.Error("no deadline: a step that hangs would hang for ever")
		}
		return nil
	})
	if err := s.Run(ctx, time.Minute); err != nil {
		t.Fatal(err)
	}
}
