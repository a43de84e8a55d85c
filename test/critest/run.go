package critest

import (
	"bytes"
	"encoding/xml"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"
)

// limit is the time of a whole run, which takes a few minutes.
const limit = 15 * time.Minute

// pinned is the digest that critest asks for and nobody else can make an image of.
const pinned = "9700f9a2f5bf2c45f2f605a0bd3bce7cf37420ec9d3ed50ac2758413308766bf"

// Run is one run of critest.
type Run struct {
	Binary   string // critest
	Endpoint string // of the runtime and its images, unix://...
	Digest   string // as of Serve
	Focus    string // expression that names of specs have to match, "" for all
	JUnit    string // file that gets the report
}

// Specs runs critest to its end and returns what came of each spec, in the order of their
// run.
func (r Run) Specs(t testing.TB) []Spec {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(r.JUnit), 0o755); err != nil {
		t.Fatal(err)
	}
	log, err := os.Create(strings.TrimSuffix(r.JUnit, ".xml") + ".log")
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	command := exec.CommandContext(t.Context(), repinned(t, r.Binary, r.Digest),
		"--runtime-endpoint", r.Endpoint, "--config", "/dev/null",
		"--ginkgo.focus", r.Focus, "--ginkgo.junit-report", r.JUnit,
		"--ginkgo.no-color", "--ginkgo.timeout", limit.String())
	command.Stdout, command.Stderr = log, log
	err = command.Run()
	// It exits with 1 after specs that failed, which the report tells better.
	if exit := (*exec.ExitError)(nil); err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	report, readErr := os.ReadFile(r.JUnit)
	if readErr != nil {
		t.Fatalf("critest wrote no report: %v; see %s", errors.Join(err, readErr), log.Name())
	}
	specs, err := parse(report)
	if err != nil {
		t.Fatalf("%s: %v", r.JUnit, err)
	}
	return specs
}

// Again runs the failed ones of specs once more, and returns specs with what came of that.
func (r Run) Again(t testing.TB, specs []Spec) []Spec {
	t.Helper()
	var names []string
	for _, s := range specs {
		if s.Outcome == Failed {
			// The report adds what ginkgo knows of a spec besides its text.
			names = append(names, regexp.QuoteMeta(strings.TrimSuffix(s.Name, " [Serial]")))
		}
	}
	r.Focus, r.JUnit = strings.Join(names, "|"), strings.TrimSuffix(r.JUnit, ".xml")+"-again.xml"
	again := r.Specs(t)
	specs = slices.Clone(specs)
	for i, s := range specs {
		now := slices.IndexFunc(again, func(a Spec) bool { return a.Name == s.Name })
		if s.Outcome == Failed && now >= 0 {
			specs[i] = again[now]
		}
	}
	return specs
}

// repinned copies critest and makes the copy ask for digest.
func repinned(t testing.TB, binary, digest string) string {
	t.Helper()
	text, err := os.ReadFile(binary)
	if err != nil {
		t.Fatalf("%v: run make bin/critest", err)
	}
	want := strings.TrimPrefix(digest, "sha256:")
	if n := bytes.Count(text, []byte(pinned)); n != 1 || len(want) != len(pinned) {
		t.Fatalf("%s has the digest that it pins %d times, want 1; to replace by %q", binary, n, digest)
	}
	own := filepath.Join(t.TempDir(), "critest")
	if err := os.WriteFile(own, bytes.Replace(text, []byte(pinned), []byte(want), 1), 0o700); err != nil {
		t.Fatal(err)
	}
	return own
}

// Outcome is what came of a spec.
type Outcome string

// The outcomes of a spec that critest ran. What it did not run, as it is out of focus, is
// no Spec.
const (
	Passed  Outcome = "passed"
	Failed  Outcome = "failed"
	Skipped Outcome = "skipped" // by itself
)

// Spec is one test of critest.
type Spec struct {
	Name    string
	Outcome Outcome
	Message string // why it was skipped or failed
}

// outOfFocus is the message of a spec that was not run; one that skips itself has more.
const outOfFocus = "skipped"

// parse reads ginkgo's JUnit report, see
// https://onsi.github.io/ginkgo/#generating-machine-readable-reports.
func parse(report []byte) ([]Spec, error) {
	type message struct {
		Message string `xml:"message,attr"`
	}
	var suites struct {
		Cases []struct {
			Name    string   `xml:"name,attr"`
			Status  string   `xml:"status,attr"`
			Skipped *message `xml:"skipped"`
			Failure *message `xml:"failure"`
			Error   *message `xml:"error"`
		} `xml:"testsuite>testcase"`
	}
	if err := xml.Unmarshal(report, &suites); err != nil {
		return nil, err
	}
	var specs []Spec
	for _, c := range suites.Cases {
		name, isSpec := strings.CutPrefix(c.Name, "[It] [k8s.io] ")
		spec := Spec{Name: name, Outcome: Failed, Message: c.Status}
		switch {
		case c.Status == "passed" && !isSpec: // such as what runs before all
			continue
		case c.Status == "passed":
			spec.Outcome, spec.Message = Passed, ""
		case c.Skipped != nil && c.Skipped.Message == outOfFocus:
			continue
		case c.Skipped != nil:
			spec.Outcome, spec.Message = Skipped, strings.TrimPrefix(c.Skipped.Message, outOfFocus+" - ")
		case c.Failure != nil:
			spec.Message = c.Failure.Message
		case c.Error != nil:
			spec.Message = c.Error.Message
		}
		specs = append(specs, spec)
	}
	if len(specs) == 0 {
		return nil, fmt.Errorf("it tells of no spec")
	}
	return specs, nil
}
