package config

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// Loaded is a Config and where each of its values came from.
type Loaded struct {
	Config
	origins map[string]string // by option key; none: the default
}

// Origin tells what set the option with this key: "default", a flag such as
// "--socket", or a place in a file as file:line:column.
func (l Loaded) Origin(key string) string {
	if o, ok := l.origins[key]; ok {
		return o
	}
	return "default"
}

// Load reads the settings from the file at path and from config.d beside it. An
// empty path means DefaultPath, which may be missing; a file that was named may
// not. The error joins all that is wrong, each with file, line and column.
func Load(path string) (Config, error) {
	l, err := load(path, nil)
	return l.Config, err
}

// load merges defaults, files and flags (nil: none were given), in this order.
func load(path string, flags *Flags) (Loaded, error) {
	files, err := find(path)
	if err != nil {
		return Loaded{}, err
	}
	l := Loaded{Config: Default(), origins: map[string]string{}}
	var errs []error
	for _, file := range files {
		errs = append(errs, l.readFile(file))
	}
	if err := errors.Join(errs...); err != nil {
		return Loaded{}, err
	}
	if flags != nil {
		flags.apply(&l)
	}
	if err := l.check(); err != nil {
		return Loaded{}, err
	}
	return l, nil
}

// check tells what is wrong with the merged values. A wrong one that a later
// source replaced does no harm and is not looked at.
func (l Loaded) check() error {
	var errs []error
	for _, o := range options() {
		if err := o.check(l.Config); err != nil {
			errs = append(errs, fmt.Errorf("%s: %s: %w", l.Origin(o.key), o.key, err))
		}
	}
	return errors.Join(errs...)
}

// find returns the files to read, in the order in which they count.
func find(path string) ([]string, error) {
	main := path
	if main == "" {
		main = DefaultPath
	}
	var files []string
	switch _, err := os.Stat(main); {
	case err == nil:
		files = append(files, main)
	case path == "" && errors.Is(err, fs.ErrNotExist):
	default:
		return nil, fmt.Errorf("config file: %w", err)
	}
	dir := filepath.Join(filepath.Dir(main), "config.d")
	entries, err := os.ReadDir(dir) // sorted by name
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("config directory: %w", err)
	}
	for _, e := range entries {
		// Editors and package managers leave hidden files beside real ones.
		if strings.HasSuffix(e.Name(), ".toml") && !strings.HasPrefix(e.Name(), ".") {
			files = append(files, filepath.Join(dir, e.Name()))
		}
	}
	return files, nil
}

func (l *Loaded) readFile(file string) error {
	doc, err := os.ReadFile(file)
	if err != nil {
		return fmt.Errorf("config file: %w", err)
	}
	places, err := parse(doc, &l.Config)
	if err != nil {
		return inFile(file, err)
	}
	for key, p := range places {
		l.origins[key] = fmt.Sprintf("%s:%d:%d", file, p.line, p.column)
	}
	return nil
}

// inFile puts the file's name before every position that err joins.
func inFile(file string, err error) error {
	joined, ok := err.(interface{ Unwrap() []error })
	if !ok {
		return fmt.Errorf("%s:%w", file, err)
	}
	var errs []error
	for _, e := range joined.Unwrap() {
		errs = append(errs, inFile(file, e))
	}
	return errors.Join(errs...)
}

// lookup returns the option with this key.
func lookup(key string) (option, bool) {
	all := options()
	i := slices.IndexFunc(all, func(o option) bool { return o.key == key })
	if i < 0 {
		return option{}, false
	}
	return all[i], true
}
