package config

import (
	"fmt"
	"strings"
	"testing"

	"github.com/pelletier/go-toml/v2"

	"github.com/mascri/mascri/internal/golden"
)

const referenceHead = `# Settings

This page is made from the table that the program reads its settings by (` + "`go test ./internal/config -update`" + `).

Settings come from ` + "`/etc/mascri/config.toml`" + `, then ` + "`/etc/mascri/config.d/*.toml`" + ` in lexical order, then flags; what
comes later wins, and a list replaces the one before. Both files and directory may be missing. With ` + "`--config FILE`" + `, that
file and the directory ` + "`config.d`" + ` beside it are read instead. No environment variable is read. A key that MasCRI does not
know, or a value that can't be right, is an error with file, line and column, and the daemon does not start.

| command | |
|---|---|
| ` + "`mascri config default`" + ` | prints all settings with their defaults, as a file to begin with |
| ` + "`mascri config check`" + ` | tells whether the files are valid, as they are now |
| ` + "`mascri config show`" + ` | prints what is in force and where each value comes from |

The daemon reads its settings once, when it starts: **every change needs a restart** of it, through which pods and their
containers keep running. What a change counts for then is told below. The CNI configs themselves are no settings: they
are read again when they change, without a restart; see [cni.md](cni.md).

` + "`mascri serve`" + ` takes each setting as a flag; the other commands take them, too, as they look at the same places.
`

// The reference names every setting, in sections as in a file.
func TestReferenceShowsTheSettingsThatThereAre(t *testing.T) {
	var b strings.Builder
	b.WriteString(referenceHead)
	defaults, section := Default(), "none"
	for _, o := range options() {
		if o.after == "" {
			t.Errorf("%s: nothing says what a change counts for", o.key)
		}
		in, name, ok := strings.Cut(o.key, ".")
		if !ok {
			in, name = "", o.key
		}
		if in != section {
			section = in
			if in == "" {
				b.WriteString("\n## The daemon\n")
			} else {
				fmt.Fprintf(&b, "\n## [%s]\n", in)
			}
		}
		line, err := toml.Marshal(map[string]any{name: o.field(&defaults)})
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprintf(&b, "\n### %s\n\n%s.", o.key, strings.ToUpper(o.usage[:1])+o.usage[1:])
		if o.doc != "" {
			b.WriteString(" " + strings.ReplaceAll(o.doc, "\n", " "))
		}
		fmt.Fprintf(&b, "\n\n| | |\n|---|---|\n| default | `%s` |\n| flag | `--%s` |\n| takes effect | %s |\n", strings.TrimSpace(string(line)), o.flag, o.after)
	}
	golden.Compare(t, "../../../docs/configuration.md", []byte(b.String()))
}
