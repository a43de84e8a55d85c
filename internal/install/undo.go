package install

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/mascri/mascri/internal/durable"
)

// editedSuffix is where a file of install's goes that was edited since.
const editedSuffix = ".after-mascri"

// Undo plans to take back all that install did, the last first. It changes nothing.
func Undo(o Options) (Plan, error) {
	if err := o.check(); err != nil {
		return Plan{}, err
	}
	m, err := o.loadManifest()
	if err != nil {
		return Plan{}, err
	}
	var plan Plan
	var changed changes
	for _, e := range slices.Backward(m.Files) {
		change, note, err := o.back(e)
		if err != nil {
			return Plan{}, err
		}
		plan.Changes = append(plan.Changes, change)
		changed = append(changed, e.Path)
		if note != "" {
			plan.Notes = append(plan.Notes, note)
		}
		plan.Notes = append(plan.Notes, o.otherBackups(e)...)
	}
	for _, dir := range slices.Backward(m.Dirs) {
		plan.Changes = append(plan.Changes, Change{Action: RemoveDir, Path: dir, Why: "made by install; stays unless it is empty"})
	}
	if o.Root != "/" {
		return plan, nil
	}
	if o.Units.Wanted && changed.below(unitDir+"/mascri.") {
		plan.Before = []Command{{[]string{"systemctl", "stop", "mascri.socket", "mascri.service"}, "the daemon ends"}}
		plan.After = append(plan.After, Command{[]string{"systemctl", "daemon-reload"}, "systemd forgets the units"})
		if dir := filepath.Dir(o.Units.Endpoint); filepath.Base(dir) == "mascri" { // and not such as /run
			plan.Changes = append(plan.Changes, Change{Action: RemoveDir, Path: dir, Why: "made by systemd for the socket; stays unless it is empty"})
		}
	}
	if slices.ContainsFunc(m.Files, func(e entry) bool { return e.Merged }) {
		plan.Notes = append(plan.Notes, "the engine keeps live-restore until it is started next: a reload does not take it back")
	}
	if changed.below(sysctlPath) {
		plan.Notes = append(plan.Notes, "kernel modules and settings stay as they are until the next boot")
	}
	return plan, nil
}

// back is how what install did for one file is undone. What is there tells how far an
// earlier uninstall came, so that the manifest stays as it is until the end.
func (o Options) back(e entry) (c Change, note string, err error) {
	c = Change{Path: e.Path, entry: e}
	if err := o.inside(e.Path); err != nil {
		return c, "", err
	}
	now, err := o.found(e.Path)
	if err != nil {
		return c, "", err
	}
	kept, err := os.Lstat(o.place(e.Backup))
	hasBackup := e.Backup != "" && err == nil
	ours := slices.Contains(e.Ours, now)
	lost := e.Backup != "" && !hasBackup
	c.Action, c.Why = Remove, "made by install"
	if hasBackup {
		c.Action, c.Why, c.Backup = Restore, "as it was before, from "+filepath.Base(e.Backup), e.Backup
	}
	switch {
	case lost && e.Merged && now != "": // also where it was put back, or not replaced yet: that changes nothing then
		c.Action, c.Why = Edit, "\"live-restore\" alone is taken back: "+filepath.Base(e.Backup)+" is gone"
	case ours && lost:
		note = fmt.Sprintf("%s is gone, which had what was there before install: nothing will be at %s", e.Backup, e.Path)
	case ours || now == "":
	case hasBackup && o.same(kept, e.Path), lost:
		// Killed before the file was replaced, or after it was put back.
		c.Action, c.Why = Restore, "it is as it was before"
	case e.Merged:
		c.Action, c.Backup, c.Why = Edit, "", "changed since install: \"live-restore\" alone is taken back"
		if hasBackup {
			note = e.Backup + " is what was there before install; it is left for you to remove"
		}
	default:
		c.aside = o.free(e.Path + editedSuffix)
		note = fmt.Sprintf("%s was changed since install; it is kept as %s", e.Path, filepath.Base(c.aside))
	}
	return c, note, nil
}

// otherBackups tells of files that install kept and that are not put back, as what was there
// before or after them is.
func (o Options) otherBackups(e entry) (notes []string) {
	found, _ := filepath.Glob(globbed(o.place(e.Path)) + backupSuffix + "*") // the pattern is valid
	for _, place := range found {
		if backup := e.Path + strings.TrimPrefix(place, o.place(e.Path)); backup != e.Backup {
			notes = append(notes, backup+" was at "+e.Path+" before an install, too; it is left for you to remove")
		}
	}
	return notes
}

// globbed makes a pattern that matches only the path.
func globbed(path string) string {
	return strings.NewReplacer(`\`, `\\`, `*`, `\*`, `?`, `\?`, `[`, `\[`).Replace(path)
}

// Revert does what Undo planned; run and step are as for Apply.
func Revert(ctx context.Context, o Options, plan Plan, run Runner, step func()) error {
	if step == nil {
		step = func() {}
	}
	if err := runAll(ctx, plan.Before, run, step); err != nil {
		return err
	}
	for _, c := range plan.Changes {
		if err := ctx.Err(); err != nil {
			return err
		}
		if err := o.unmake(c, step); err != nil {
			return fmt.Errorf("%s %s: %w", c.Action, c.Path, err)
		}
	}
	if err := runAll(ctx, plan.After, run, step); err != nil {
		return err
	}
	step()
	// The directory stays where the daemon's state is in it.
	if err := durable.Remove(o.place(o.manifestPath())); err != nil {
		return err
	}
	return removeEmpty(o.place(o.StateDir))
}

func (o Options) unmake(c Change, step func()) error {
	place := o.place(c.Path)
	step()
	if c.Action == RemoveDir {
		return removeEmpty(place)
	}
	if err := durable.Remove(place + tempSuffix); err != nil {
		return err
	}
	if c.aside != "" {
		if err := os.Rename(place, o.place(c.aside)); err != nil {
			return err
		}
		step()
	}
	switch {
	case c.Action == Edit:
		return o.unmerge(c, step)
	case c.Action == Restore && c.Backup == "": // it is as it was
		return nil
	case c.Action == Restore:
		// Two names of one file: renaming would do nothing.
		if stat, err := os.Lstat(o.place(c.Backup)); err == nil && o.same(stat, c.Path) {
			return durable.Remove(o.place(c.Backup))
		}
		if err := os.Rename(o.place(c.Backup), place); err != nil {
			return err
		}
		return durable.SyncDir(filepath.Dir(place))
	}
	return durable.Remove(place)
}

// unmerge takes live-restore out of the engine's configuration, which has changed since.
func (o Options) unmerge(c Change, step func()) error {
	place := o.place(c.Path)
	text, err := os.ReadFile(place)
	if err != nil {
		return err
	}
	stat, err := os.Stat(place)
	if err != nil {
		return err
	}
	var changed []byte
	if c.entry.Before == "" {
		changed, err = removeMember(text, liveRestoreKey)
	} else {
		changed, _, err = setMember(text, liveRestoreKey, c.entry.Before)
	}
	if err != nil {
		return fmt.Errorf("%w; mend it, or remove \"live-restore\" from it by hand", err)
	}
	if string(changed) == string(text) {
		return nil
	}
	f := file{path: c.Path, data: changed}
	f.like(stat)
	return o.write(f, step)
}

// removeEmpty removes a directory unless something is in it.
func removeEmpty(place string) error {
	err := durable.Remove(place)
	if errors.Is(err, unix.ENOTEMPTY) || errors.Is(err, unix.EEXIST) {
		return nil
	}
	return err
}
