package critest

import (
	"bufio"
	_ "embed"
	"fmt"
	"slices"
	"strings"
	"testing"
)

// skips is the list of specs that may skip themselves; the file says how to read it.
//
//go:embed skips.txt
var skips string

// skip is a line of skips.
type skip struct {
	why    string // kernel or later
	specs  string // what their names begin with
	reason string
}

// Result is what came of a run.
type Result struct {
	// Table has a line for each spec, in the order of their names. It is the same on
	// every machine as long as the runtime is.
	Table []byte
	// Faults are the specs that failed, and those that skipped themselves for no reason
	// that is listed, each with the beginning of what critest says.
	Faults []string

	counts map[Outcome]int
}

// String is such as "100 passed, 0 failed, 17 skipped".
func (r Result) String() string {
	return fmt.Sprintf("%d passed, %d failed, %d skipped", r.counts[Passed], r.counts[Failed], r.counts[Skipped])
}

// Judge judges specs by the list of those that may skip themselves.
func Judge(t testing.TB, specs []Spec) Result {
	t.Helper()
	list, err := parseSkips(skips)
	if err != nil {
		t.Fatal(err)
	}
	return judge(specs, list)
}

func judge(specs []Spec, list []skip) Result {
	r := Result{counts: map[Outcome]int{}}
	var lines []string
	for _, s := range specs {
		outcome, listed := s.Outcome, s.Outcome
		i := slices.IndexFunc(list, func(skip skip) bool { return strings.HasPrefix(s.Name, skip.specs) })
		switch {
		case outcome == Skipped && i < 0:
			outcome, listed = Failed, Failed
			r.Faults = append(r.Faults, fmt.Sprintf("%s: it skips itself, and skips.txt has no reason for that: %s", s.Name, s.Message))
		case outcome == Failed:
			r.Faults = append(r.Faults, s.Name+": "+brief(s.Message))
		case outcome == Passed && i >= 0 && list[i].why == "kernel":
			listed = Skipped // as on the machine that the table was made on
		}
		r.counts[outcome]++
		lines = append(lines, fmt.Sprintf("%-7s  %s\n", listed, s.Name))
	}
	slices.SortFunc(lines, func(a, b string) int { return strings.Compare(nameIn(a), nameIn(b)) })
	r.Table = []byte(strings.Join(lines, ""))
	return r
}

// brief is a message without the values in detail that come after what went wrong; they
// are in the report.
func brief(message string) string {
	lines := strings.SplitN(message, "\n", 5)
	return strings.Join(lines[:min(4, len(lines))], "\n")
}

// Diff returns the lines that only one of two tables has, those of a spec together.
func Diff(want, got string) string {
	var lines []string
	only := func(sign, table, other string) {
		has := strings.Split(other, "\n")
		for line := range strings.SplitSeq(table, "\n") {
			if !slices.Contains(has, line) {
				lines = append(lines, sign+line+"\n")
			}
		}
	}
	only("-", want, got)
	only("+", got, want)
	slices.SortStableFunc(lines, func(a, b string) int { return strings.Compare(nameIn(a[1:]), nameIn(b[1:])) })
	return strings.Join(lines, "")
}

// nameIn is the name in a line of a table.
func nameIn(line string) string {
	_, name, _ := strings.Cut(line, " ")
	return strings.TrimSpace(name)
}

func parseSkips(text string) ([]skip, error) {
	var list []skip
	lines := bufio.NewScanner(strings.NewReader(text))
	for number := 1; lines.Scan(); number++ {
		line := lines.Text()
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		why, rest, _ := strings.Cut(line, " ")
		specs, reason, _ := strings.Cut(rest, "|")
		s := skip{why, strings.TrimSpace(specs), strings.TrimSpace(reason)}
		if why != "kernel" && why != "later" || s.specs == "" || s.reason == "" {
			return nil, fmt.Errorf("skips.txt:%d: %q is no kernel or later, name and reason", number, line)
		}
		list = append(list, s)
	}
	return list, lines.Err()
}
