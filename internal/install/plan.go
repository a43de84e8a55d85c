// Package install puts MasCRI on a machine and takes it off again.
//
// What is to be done is planned first, and told; then it is done as it was told. Each
// change is noted in a manifest in the state directory, durably, before it is made, and
// each is atomic. So a process that is killed in between leaves a machine on which either
// of both, install or uninstall, ends right when it is run again. A file that was there
// before is kept beside the new one, the very same file, and put back by uninstall.
//
// Nothing here is safe for concurrent use: one process at a time, see Lock.
package install

import (
	"context"
	"fmt"
	"io"
	"path/filepath"
	"strings"
	"text/tabwriter"
)

// Action is what is done at a path.
type Action string

// The actions of installing, and those of undoing it.
const (
	MakeDir Action = "mkdir"
	Create  Action = "create"
	Replace Action = "replace"

	Remove    Action = "remove"
	Restore   Action = "restore"
	Edit      Action = "edit"
	RemoveDir Action = "rmdir"
)

// Change is one change of the file system.
type Change struct {
	Action Action
	Path   string // on the machine, without Options.Root
	Why    string
	// Backup is where what is at Path is kept, or was kept and is taken from. "" where
	// nothing is.
	Backup string

	file  file   // of Create and Replace
	entry entry  // of all but MakeDir and RemoveDir
	aside string // of Remove and Restore: where what is there is kept, as it was edited
}

// Command is run once the files are in place.
type Command struct {
	Args []string
	Why  string
}

// Plan is all that is going to be done, in this order.
type Plan struct {
	Before  []Command
	Changes []Change
	After   []Command
	// Notes are what the user has to know or to do.
	Notes []string
}

// Empty tells whether there is nothing to do.
func (p Plan) Empty() bool { return len(p.Before)+len(p.Changes)+len(p.After) == 0 }

// WriteText writes the plan for people.
func (p Plan) WriteText(w io.Writer) error {
	table := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	commands := func(list []Command) {
		for _, c := range list {
			fmt.Fprintf(table, "run\t%s\t%s\n", strings.Join(c.Args, " "), c.Why)
		}
	}
	commands(p.Before)
	for _, c := range p.Changes {
		why := c.Why
		if c.Backup != "" && c.Action == Replace {
			why += "; what is there now is kept as " + filepath.Base(c.Backup)
		}
		fmt.Fprintf(table, "%s\t%s\t%s\n", c.Action, c.Path, why)
	}
	commands(p.After)
	if err := table.Flush(); err != nil {
		return err
	}
	if p.Empty() {
		fmt.Fprintln(w, "there is nothing to change")
	}
	for _, note := range p.Notes {
		fmt.Fprintln(w, "note: "+note)
	}
	return nil
}

// Runner runs a command of a plan.
type Runner func(ctx context.Context, args []string) error
