// Docs runs the commands of Markdown files as a reader would: those of each block in "sh", in
// one shell for each file, in the current directory. A block in "text" that follows one in "sh"
// is what that prints; see differ. It prints a line for each block, and exits with 1 at the
// first command that fails or prints something else.
//
//	docs [-until HEADING] FILE...
//
// With -until, it tells the time from the first command to the last below that heading.
package main

import (
	"bufio"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

func main() {
	until := flag.String("until", "", "tell the time until the end of the commands below this `heading`")
	flag.Parse()
	if flag.NArg() == 0 {
		flag.Usage()
		os.Exit(2)
	}
	for _, file := range flag.Args() {
		if err := run(file, *until); err != nil {
			fmt.Fprintln(os.Stderr, "error:", err)
			os.Exit(1)
		}
	}
}

// A step is a block of commands, and what it is to print, if that is shown.
type step struct {
	commands block
	shown    *block
}

// steps returns what there is to run.
func steps(d document) (all []step) {
	for i, b := range d.blocks {
		if b.language != "sh" {
			continue
		}
		s := step{commands: b}
		if i+1 < len(d.blocks) && d.blocks[i+1].language == "text" && d.blocks[i+1].heading == b.heading {
			s.shown = &d.blocks[i+1]
		}
		all = append(all, s)
	}
	return all
}

func run(file, until string) error {
	text, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	all := steps(parse(string(text)))
	if len(all) == 0 {
		return fmt.Errorf("%s has no commands", file)
	}
	s, err := newShell()
	if err != nil {
		return err
	}
	defer s.end()
	began, arrived := time.Now(), false
	for i, step := range all {
		heading := step.commands.heading
		fmt.Printf("[%d/%d] %s: %s\n", i+1, len(all), filepath.Base(file), heading)
		out, err := s.run(step.commands.text)
		if err == nil && step.shown != nil {
			err = differ(step.shown.text, out)
		}
		if err != nil {
			return fmt.Errorf("%s:%d: %w\n--- commands:\n%s--- output:\n%s", file, step.commands.line, err, step.commands.text, out)
		}
		if heading == until && (i+1 == len(all) || all[i+1].commands.heading != until) {
			fmt.Printf("      %.0f s since the first command\n", time.Since(began).Seconds())
			arrived = true
		}
	}
	if until != "" && !arrived {
		return fmt.Errorf("%s has no commands below %q", file, until)
	}
	return nil
}

// shell is a bash that is given one block after the other, and ends at the first command that fails.
type shell struct {
	cmd *exec.Cmd
	in  io.WriteCloser
	ack *bufio.Reader
	out string // file
}

func newShell() (*shell, error) {
	out, err := os.CreateTemp("", "docs-*")
	if err != nil {
		return nil, err
	}
	if err := out.Close(); err != nil {
		return nil, err
	}
	s := &shell{cmd: exec.Command("bash", "--noprofile", "--norc", "-eo", "pipefail"), out: out.Name()}
	if s.in, err = s.cmd.StdinPipe(); err != nil {
		return nil, err
	}
	ack, err := s.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	s.ack = bufio.NewReader(ack)
	s.cmd.Stderr = os.Stderr
	return s, s.cmd.Start()
}

// run returns what the commands printed, on both outputs.
func (s *shell) run(commands string) (string, error) {
	_, err := fmt.Fprintf(s.in, "{\n%s} >%s 2>&1 </dev/null\necho done\n", commands, s.out)
	if err == nil {
		_, err = s.ack.ReadString('\n')
	}
	out, readErr := os.ReadFile(s.out)
	if errors.Is(err, io.EOF) {
		err = errors.New("a command failed")
	}
	return strings.ToValidUTF8(string(out), "?"), errors.Join(err, readErr)
}

// end leaves what the commands left running alone.
func (s *shell) end() {
	_ = s.in.Close()
	_ = s.cmd.Wait()
	_ = os.Remove(s.out)
}
