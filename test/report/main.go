// Report reads what "go test -json" prints, shows it to a person and counts: a
// line per package, the output of what failed, the reason of each skip. It exits
// with 1 where anything failed.
//
//	go test -json ./... | go run ./test/report NAME
package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
)

// event is a line of "go test -json", see "go doc test2json".
type event struct {
	Action     string
	Package    string
	ImportPath string // in place of Package where building is told of
	Test       string
	Output     string
	Elapsed    float64 // seconds
}

func main() {
	if len(os.Args) != 2 {
		fmt.Fprintln(os.Stderr, "usage: go test -json ... | report NAME")
		os.Exit(2)
	}
	r := report{out: os.Stdout, output: map[string][]string{}}
	if err := r.read(os.Stdin); err != nil {
		fmt.Fprintln(os.Stderr, "report:", err)
		os.Exit(2)
	}
	fmt.Printf("%s: %d passed, %d failed, %d skipped; %d packages failed\n", os.Args[1], r.passed, r.failed, r.skipped, r.packagesFailed)
	if r.failed+r.packagesFailed > 0 {
		os.Exit(1)
	}
}

// report counts tests and subtests.
type report struct {
	out    io.Writer
	output map[string][]string // by package and test, of what has not ended yet
	passed, failed, skipped,
	packagesFailed int
}

func (r *report) read(in io.Reader) error {
	lines := bufio.NewReader(in)
	for {
		line, err := lines.ReadBytes('\n')
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		var e event
		if json.Unmarshal(line, &e) != nil {
			// Such as a message of go itself.
			fmt.Fprintf(r.out, "%s", line)
			continue
		}
		r.event(e)
	}
}

func (r *report) event(e event) {
	key := e.Package + e.ImportPath + " " + e.Test
	switch e.Action {
	case "output", "build-output":
		r.output[key] = append(r.output[key], e.Output)
		return
	case "pass":
		r.ended(e, &r.passed, nil)
	case "fail", "build-fail":
		r.ended(e, &r.failed, r.output[key])
	case "skip":
		r.ended(e, &r.skipped, r.output[key])
	default:
		return
	}
	delete(r.output, key)
}

// ended counts a test and shows output, or shows what was told of a package.
func (r *report) ended(e event, counter *int, output []string) {
	if e.Test != "" {
		*counter++
	} else {
		output = r.output[e.Package+e.ImportPath+" "]
		if e.Action == "fail" {
			r.packagesFailed++
		}
	}
	for _, line := range output {
		if !strings.HasPrefix(line, "=== ") && line != "PASS\n" && line != "FAIL\n" {
			fmt.Fprint(r.out, line)
		}
	}
}
