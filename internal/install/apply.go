package install

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/mascri/mascri/internal/durable"
)

const (
	tempSuffix   = ".mascri-tmp"
	backupSuffix = ".before-mascri"
)

// New plans an installation. It changes nothing.
func New(o Options) (Plan, error) {
	if err := o.check(); err != nil {
		return Plan{}, err
	}
	m, err := o.loadManifest()
	if err != nil {
		return Plan{}, err
	}
	if unit := o.packaged(); unit != "" {
		if _, twice := m.entry(programPath); twice {
			return Plan{}, fmt.Errorf("mascri is there twice: that of an earlier mascri install goes before the package's (%s); run \"mascri uninstall\" first", unit)
		}
	}
	files, notes, err := o.wanted()
	if err != nil {
		return Plan{}, err
	}
	plan := Plan{Notes: notes}
	changed := changes(slices.Clone(m.Pending))
	made := map[string]bool{}
	for _, f := range files {
		change, err := o.compare(m, f)
		if err != nil {
			return Plan{}, err
		}
		if change == nil {
			continue
		}
		for _, dir := range o.missingDirs(f.path) {
			if !made[dir] {
				made[dir] = true
				plan.Changes = append(plan.Changes, Change{Action: MakeDir, Path: dir, Why: "for what follows"})
			}
		}
		plan.Changes = append(plan.Changes, *change)
		changed = append(changed, f.path)
	}
	plan.After = o.commands(changed)
	return plan, nil
}

// compare returns what has to be done for a file to be there, nil for nothing.
func (o Options) compare(m manifest, f file) (*Change, error) {
	if err := o.inside(f.path); err != nil {
		return nil, err
	}
	now, err := o.found(f.path)
	if err != nil {
		return nil, err
	}
	e, known := m.entry(f.path)
	switch {
	case now == f.digest(), now != "" && f.keep && !slices.Contains(e.Ours, now):
		return nil, nil
	case now == "":
		return &Change{Action: Create, Path: f.path, Why: f.why, file: f,
			entry: entry{Path: f.path, Ours: []string{f.digest()}, Backup: e.Backup, Merged: f.merged, Before: f.before}}, nil
	case known && slices.Contains(e.Ours, now): // an earlier version of ours
		e.Ours = []string{now, f.digest()}
		return &Change{Action: Replace, Path: f.path, Why: f.why, file: f, entry: e}, nil
	}
	backup := o.freeBackup(f.path, e)
	next := entry{Path: f.path, Ours: []string{f.digest()}, Backup: backup, Merged: f.merged, Before: f.before}
	// Of the engine's configuration, what counts is what its users wrote last.
	if known && e.Backup != "" && backup != e.Backup && !f.merged {
		next.Backup, next.Before = e.Backup, e.Before // what was there before all of ours
	}
	return &Change{Action: Replace, Path: f.path, Why: f.why, Backup: backup, file: f, entry: next}, nil
}

// freeBackup is where what is at path can be kept: the place that was noted where install
// was killed before it kept it, or else a free one.
func (o Options) freeBackup(path string, e entry) string {
	if e.Backup != "" {
		stat, err := os.Lstat(o.place(e.Backup))
		if os.IsNotExist(err) || err == nil && o.same(stat, path) {
			return e.Backup
		}
	}
	return o.free(path + backupSuffix)
}

// free is a path where nothing is: this one, or the first of those with a number behind it.
func (o Options) free(path string) string {
	free := path
	for i := 1; ; i++ {
		if _, err := os.Lstat(o.place(free)); os.IsNotExist(err) {
			return free
		}
		free = fmt.Sprintf("%s.%d", path, i)
	}
}

// same tells whether stat is of the very file at path.
func (o Options) same(stat os.FileInfo, path string) bool {
	other, err := os.Lstat(o.place(path))
	return err == nil && os.SameFile(stat, other)
}

// missingDirs are those above path, the outermost first.
func (o Options) missingDirs(path string) []string {
	var dirs []string
	for dir := filepath.Dir(path); dir != "/"; dir = filepath.Dir(dir) {
		if _, err := os.Stat(o.place(dir)); err == nil {
			break
		}
		dirs = append(dirs, dir)
	}
	slices.Reverse(dirs)
	return dirs
}

// Apply does what New planned. step, where set, is called before each thing that is done,
// for tests that end the process there.
func Apply(ctx context.Context, o Options, plan Plan, run Runner, step func()) error {
	if step == nil {
		step = func() {}
	}
	m, err := o.loadManifest()
	if err != nil {
		return err
	}
	for _, c := range plan.Changes {
		if err := ctx.Err(); err != nil {
			return err
		}
		if err := o.make(&m, c, step); err != nil {
			return fmt.Errorf("%s %s: %w", c.Action, c.Path, err)
		}
	}
	if err := runAll(ctx, plan.After, run, step); err != nil {
		return err
	}
	if len(m.Pending) == 0 {
		return nil
	}
	m.Pending = nil
	return o.saveManifest(m)
}

func runAll(ctx context.Context, commands []Command, run Runner, step func()) error {
	for _, c := range commands {
		step()
		if err := run(ctx, c.Args); err != nil {
			return fmt.Errorf("%s: %w", strings.Join(c.Args, " "), err)
		}
	}
	return nil
}

// make notes a change, and makes it then.
func (o Options) make(m *manifest, c Change, step func()) error {
	step()
	if c.Action == MakeDir {
		m.Dirs = append(m.Dirs, c.Path)
		if err := o.saveManifest(*m); err != nil {
			return err
		}
		step()
		if err := os.Mkdir(o.place(c.Path), 0o755); err != nil && !os.IsExist(err) {
			return err
		}
		return durable.SyncDir(filepath.Dir(o.place(c.Path)))
	}
	m.put(c.entry)
	if !slices.Contains(m.Pending, c.Path) {
		m.Pending = append(m.Pending, c.Path)
	}
	if err := o.saveManifest(*m); err != nil {
		return err
	}
	step()
	if c.Backup != "" {
		if err := o.keep(c); err != nil {
			return err
		}
		step()
	}
	return o.write(c.file, step)
}

// keep makes the backup: another name of the file itself, so that it stays as it is.
func (o Options) keep(c Change) error {
	backup := o.place(c.Backup)
	if stat, err := os.Lstat(backup); err == nil && o.same(stat, c.Path) {
		return nil // of an install that was killed
	}
	if err := os.Link(o.place(c.Path), backup); err != nil {
		return err
	}
	return durable.SyncDir(filepath.Dir(backup))
}

// write replaces a file at once.
func (o Options) write(f file, step func()) error {
	place := o.place(f.path)
	temp := place + tempSuffix
	if err := os.Remove(temp); err != nil && !os.IsNotExist(err) {
		return err
	}
	if err := f.writeTo(temp); err != nil {
		return errors.Join(err, os.Remove(temp))
	}
	step()
	if err := os.Rename(temp, place); err != nil {
		return err
	}
	return durable.SyncDir(filepath.Dir(place))
}

func (f file) writeTo(path string) error {
	if f.link != "" {
		return os.Symlink(f.link, path)
	}
	w, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, f.mode)
	if err != nil {
		return err
	}
	_, err = w.Write(f.data)
	// The mode that was asked for, whatever the umask.
	return errors.Join(err, w.Chown(f.uid, f.gid), w.Chmod(f.mode), w.Sync(), w.Close())
}
