package config

import (
	"reflect"

	"github.com/spf13/pflag"
)

// Flags is the command line's part of the settings.
type Flags struct {
	set    *pflag.FlagSet
	path   string
	values Config
}

// NewFlags adds --config and one flag for each option to set.
func NewFlags(set *pflag.FlagSet) *Flags {
	f := &Flags{set: set, values: Default()}
	set.StringVar(&f.path, "config", "", "config file (default "+DefaultPath+" where it exists)")
	for _, o := range options() {
		switch field := o.field(&f.values).(type) {
		case *string:
			set.StringVar(field, o.flag, *field, o.usage)
		case *bool:
			set.BoolVar(field, o.flag, *field, o.usage)
		case *int:
			set.IntVar(field, o.flag, *field, o.usage)
		case *[]string:
			set.StringArrayVar(field, o.flag, *field, o.usage)
		}
	}
	return f
}

// Load reads the files and puts the flags that were given over them. See the
// function Load.
func (f *Flags) Load() (Loaded, error) { return load(f.path, f) }

func (f *Flags) apply(l *Loaded) {
	for _, o := range options() {
		if !f.set.Changed(o.flag) {
			continue
		}
		reflect.ValueOf(o.field(&l.Config)).Elem().Set(reflect.ValueOf(o.field(&f.values)).Elem())
		l.origins[o.key] = "--" + o.flag
	}
}
