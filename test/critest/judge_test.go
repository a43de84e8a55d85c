package critest

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// report is what ginkgo writes, shortened.
const report = `<?xml version="1.0" encoding="UTF-8"?>
  <testsuites tests="7" disabled="1" errors="1" failures="1" time="1">
    <testsuite name="CRI validation" tests="7">
      <properties><property name="RandomSeed" value="1"></property></properties>
      <testcase name="[BeforeSuite]" classname="CRI validation" status="passed" time="0"></testcase>
      <testcase name="[It] [k8s.io] Pod runs [Conformance]" classname="CRI validation" status="passed" time="0"></testcase>
      <testcase name="[It] [k8s.io] Pod benchmark" classname="CRI validation" status="skipped" time="0">
        <skipped message="skipped"></skipped>
      </testcase>
      <testcase name="[It] [k8s.io] AppArmor denies" classname="CRI validation" status="skipped" time="0">
        <skipped message="skipped - AppArmor is disabled on this host"></skipped>
      </testcase>
      <testcase name="[It] [k8s.io] Pod stops" classname="CRI validation" status="failed" time="1">
        <failure message="Expected&#xA;  true" type="failed">[FAILED] at pod.go:1</failure>
        <system-err>much</system-err>
      </testcase>
      <testcase name="[It] [k8s.io] Pod sleeps" classname="CRI validation" status="timedout" time="1">
        <error message="too late" type="timedout">at pod.go:2</error>
      </testcase>
      <testcase name="[It] [k8s.io] Pod waits" classname="CRI validation" status="pending" time="0">
        <skipped message="pending"></skipped>
      </testcase>
    </testsuite>
  </testsuites>`

func TestReportIsRead(t *testing.T) {
	got, err := parse([]byte(report))
	if err != nil {
		t.Fatal(err)
	}
	want := []Spec{
		{"Pod runs [Conformance]", Passed, ""},
		{"AppArmor denies", Skipped, "AppArmor is disabled on this host"},
		{"Pod stops", Failed, "Expected\n  true"},
		{"Pod sleeps", Failed, "too late"},
		{"Pod waits", Skipped, "pending"},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

func TestFailureBeforeAllSpecsIsTold(t *testing.T) {
	got, err := parse([]byte(`<testsuites><testsuite>
		<testcase name="[BeforeSuite]" status="panicked"><error message="no images" type="panicked">at util.go:1</error></testcase>
		<testcase name="[It] [k8s.io] Pod runs" status="skipped"><skipped message="skipped"></skipped></testcase>
	</testsuite></testsuites>`))
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]Spec{{"[BeforeSuite]", Failed, "no images"}}, got); diff != "" {
		t.Error(diff)
	}
}

func TestReportWithoutSpecsIsAnError(t *testing.T) {
	for _, text := range []string{"", "<testsuites>", "<testsuites></testsuites>", report[:len(report)/2]} {
		if specs, err := parse([]byte(text)); err == nil {
			t.Errorf("parse %.40q: %v", text, specs)
		}
	}
}

func TestSpecThatSkipsItselfNeedsAReason(t *testing.T) {
	list, err := parseSkips("# why\n\nkernel  AppArmor | this kernel has none\nlater User | some day\n")
	if err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		spec   Spec
		table  string
		counts string
		faults int
	}{
		{Spec{"Pod runs", Passed, ""}, "passed   Pod runs\n", "1 passed, 0 failed, 0 skipped", 0},
		{Spec{"Pod runs", Failed, "no"}, "failed   Pod runs\n", "0 passed, 1 failed, 0 skipped", 1},
		{Spec{"Pod runs", Skipped, "no"}, "failed   Pod runs\n", "0 passed, 1 failed, 0 skipped", 1},
		{Spec{"AppArmor denies", Skipped, "no"}, "skipped  AppArmor denies\n", "0 passed, 0 failed, 1 skipped", 0},
		{Spec{"AppArmor denies", Passed, ""}, "skipped  AppArmor denies\n", "1 passed, 0 failed, 0 skipped", 0},
		{Spec{"AppArmor denies", Failed, "no"}, "failed   AppArmor denies\n", "0 passed, 1 failed, 0 skipped", 1},
		{Spec{"User maps", Skipped, "no"}, "skipped  User maps\n", "0 passed, 0 failed, 1 skipped", 0},
		{Spec{"User maps", Passed, ""}, "passed   User maps\n", "1 passed, 0 failed, 0 skipped", 0},
	} {
		got := judge([]Spec{test.spec}, list)
		if string(got.Table) != test.table || got.String() != test.counts || len(got.Faults) != test.faults {
			t.Errorf("%+v: %q, %v, %q", test.spec, got.Table, got, got.Faults)
		}
	}
}

func TestTableIsInTheOrderOfNames(t *testing.T) {
	got := judge([]Spec{{"B", Passed, ""}, {"C", Failed, ""}, {"A", Failed, ""}}, nil)
	if want := "failed   A\npassed   B\nfailed   C\n"; string(got.Table) != want {
		t.Errorf("%q, want %q", got.Table, want)
	}
}

func TestSkipsHaveReasons(t *testing.T) {
	if _, err := parseSkips(skips); err != nil {
		t.Error(err)
	}
	for _, line := range []string{"kernel AppArmor", "kernel AppArmor |", "kernel | reason", "often AppArmor | reason", "kernel"} {
		if list, err := parseSkips("# why\n" + line); err == nil || !strings.Contains(err.Error(), "skips.txt:2") {
			t.Errorf("%q: %v, %v", line, list, err)
		}
	}
}

func TestDiffTellsOfEachSpecThatDiffers(t *testing.T) {
	want := "passed   A\nskipped  B\npassed   C\npassed   D\n"
	got := "passed   A\npassed   B\npassed   D\nfailed   E\n"
	if diff := cmp.Diff("-skipped  B\n+passed   B\n-passed   C\n+failed   E\n", Diff(want, got)); diff != "" {
		t.Error(diff)
	}
	if same := Diff(want, want); same != "" {
		t.Errorf("of a table and itself: %q", same)
	}
}
