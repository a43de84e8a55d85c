package config

import (
	"fmt"
	"io"
	"strings"

	"github.com/pelletier/go-toml/v2"
)

// WriteDefault writes the defaults as a commented TOML file.
func WriteDefault(w io.Writer) error {
	_, err := fmt.Fprint(w, "# Settings of MasCRI, with their defaults. Files in config.d/ beside this one are\n"+
		"# read after it, in lexical order; flags come last. A list replaces the one before.\n\n")
	if err != nil {
		return err
	}
	return write(w, Default(), func(o option) string {
		text := "# " + o.usage + " (--" + o.flag + ")\n"
		if o.doc != "" {
			text += "# " + strings.ReplaceAll(o.doc, "\n", "\n# ") + "\n"
		}
		return text
	})
}

// WriteTOML writes the merged settings as TOML, each below a comment that says
// where it comes from.
func (l Loaded) WriteTOML(w io.Writer) error {
	return write(w, l.Config, func(o option) string { return "# " + l.Origin(o.key) + "\n" })
}

func write(w io.Writer, c Config, comment func(option) string) error {
	var b strings.Builder
	section := ""
	for i, o := range options() {
		if i > 0 {
			b.WriteByte('\n')
		}
		name := o.key
		if s, rest, ok := strings.Cut(o.key, "."); ok {
			name = rest
			if s != section {
				section = s
				fmt.Fprintf(&b, "[%s]\n", s)
			}
		}
		line, err := toml.Marshal(map[string]any{name: o.field(&c)})
		if err != nil {
			return fmt.Errorf("write %s: %w", o.key, err)
		}
		b.WriteString(comment(o))
		b.Write(line)
	}
	_, err := io.WriteString(w, b.String())
	return err
}
