package e2e

import (
	"cmp"
	"fmt"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/mascri/mascri/internal/engine/enginetest"
	"github.com/mascri/mascri/test/chaos"
)

// Walks that once failed, with as many steps as it took. What they found has a test of its
// own as well: a change of package chaos makes another walk of a seed.
var failedWalks = []struct {
	seed  uint64
	steps int
}{
	{1, 29}, // a plugin that was just being started had the lock of the daemon that was killed
}

// After each step of a random walk, what is on the node is what its pods need and no more,
// without anybody's help. "make chaos" takes longer walks, of other seeds.
func TestChaos(t *testing.T) {
	seed, steps := chaosSettings(t)
	version := enginetest.Version(cmp.Or(os.Getenv("MASCRI_CHAOS_ENGINE"), string(enginetest.Engine28)))
	binary := buildWith(t, clockEdits(t)...)
	c, wrong := walk(t, binary, version, seed, steps)
	if wrong != "" {
		t.Fatal(wrong)
	}
	c.leave(t)
}

// chaosSettings are those of the usual walk, or what "make chaos" was told.
func chaosSettings(t *testing.T) (seed uint64, steps int) {
	t.Helper()
	seed, steps = chaos.UsualSeed, chaos.UsualSteps
	var err error
	if text := os.Getenv("MASCRI_CHAOS_SEED"); text != "" {
		if seed, err = strconv.ParseUint(text, 10, 64); err != nil {
			t.Fatalf("MASCRI_CHAOS_SEED: %v", err)
		}
	}
	if text := os.Getenv("MASCRI_CHAOS_STEPS"); text != "" {
		if steps, err = strconv.Atoi(text); err != nil {
			t.Fatalf("MASCRI_CHAOS_STEPS: %v", err)
		}
	}
	return seed, steps
}

func TestChaosThatOnceFailed(t *testing.T) {
	binary := buildWith(t, clockEdits(t)...)
	for _, w := range failedWalks {
		t.Run(fmt.Sprintf("seed %d", w.seed), func(t *testing.T) {
			c, wrong := walk(t, binary, enginetest.Engine28, w.seed, w.steps)
			if wrong != "" {
				t.Fatal(wrong)
			}
			c.leave(t)
		})
	}
}

// tally counts for each fault how often it was planned, and how often it hit something.
type tally map[chaos.Fault]struct{ planned, took int }

func (y tally) String() string {
	var out strings.Builder
	for _, fault := range append([]chaos.Fault{chaos.None}, chaos.Faults...) {
		fmt.Fprintf(&out, "%-40s planned %3d, took effect %3d\n", fault, y[fault].planned, y[fault].took)
	}
	return out.String()
}

// walk takes a walk, and tells what was wrong at which step, if anything was.
func walk(t *testing.T, binary string, version enginetest.Version, seed uint64, steps int) (c *chaosNode, wrong string) {
	t.Helper()
	w := chaos.NewWalk(seed)
	c = newChaosNode(t, binary, version, w.Model().LiveRestore)
	t.Logf("seed %d, %d steps, engine %s, live-restore %v", seed, steps, version, w.Model().LiveRestore)
	began, counts := time.Now(), tally{}
	defer func() { t.Logf("seed %d, in %v:\n%s", seed, time.Since(began).Round(time.Second), counts) }()
	for i := range steps {
		before := w.Model()
		s := w.Next()
		t.Logf("%4d: %s", i+1, s)
		o := c.take(t, s, before)
		count := counts[s.Fault]
		count.planned++
		if o.took {
			count.took++
		}
		counts[s.Fault] = count
		wrong = cmp.Or(o.wrong, c.settle(t, s, before.After(s), w.Model()))
		if wrong != "" {
			return c, fmt.Sprintf("step %d, %s:\n%s\nthe same again: make chaos SEED=%d STEPS=%d", i+1, s, wrong, seed, i+1)
		}
	}
	for fault, count := range counts {
		if count.planned > 5 && count.took == 0 {
			t.Errorf("no %s of %d hit anything: that shows nothing", fault, count.planned)
		}
	}
	return c, ""
}

// settle compares the node with what the step leads to, and once more when what was in
// doubt has been asked for again.
func (c *chaosNode) settle(t *testing.T, s chaos.Step, now, settled chaos.Model) string {
	t.Helper()
	if wrong := c.await(t, now); wrong != "" {
		return wrong
	}
	if now == settled {
		return ""
	}
	for _, r := range s.Requests {
		if now.Pods[r.Pod].State != chaos.Doubt {
			continue
		}
		if err := c.askAgain(t, r); err != nil {
			return fmt.Sprintf("asked again to %s pod %d: %v", r.Verb, r.Pod, err)
		}
	}
	return c.await(t, settled)
}

// leave removes all pods.
func (c *chaosNode) leave(t *testing.T) {
	t.Helper()
	for _, s := range c.list(t) {
		c.removePod(t, s.GetId())
	}
	c.wantWhole(t, 0)
	if log, err := os.ReadFile(c.logFile); err != nil || strings.Contains(string(log), "DATA RACE") {
		t.Errorf("the daemon raced, or its log can't be read: %v", err)
	}
}
