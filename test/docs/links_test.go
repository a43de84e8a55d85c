package main

import (
	"fmt"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

const root = "../.."

// Every link of a Markdown file to a place in the repository leads to a file that git knows
// or would take, and its anchor to a heading.
func TestLinksLeadSomewhere(t *testing.T) {
	out, err := exec.CommandContext(t.Context(), "git", "-c", "safe.directory=*", "-C", root, "ls-files", "--cached", "--others", "--exclude-standard").Output()
	if err != nil {
		t.Fatal(err)
	}
	there := map[string]bool{".": true}
	docs := map[string]document{}
	for name := range strings.Lines(string(out)) {
		name = strings.TrimSpace(name)
		text, err := os.ReadFile(filepath.Join(root, name))
		if err != nil {
			continue // removed, and not yet committed
		}
		for path := name; path != "."; path = filepath.Dir(path) {
			there[path] = true
		}
		if filepath.Ext(name) == ".md" {
			docs[name] = parse(string(text))
		}
	}
	links := 0
	for name, doc := range docs {
		for _, l := range doc.links {
			links++
			if err := leads(name, l.target, there, docs); err != nil {
				t.Errorf("%s:%d: %s: %v", name, l.line, l.target, err)
			}
		}
	}
	if links < 50 {
		t.Errorf("only %d links were found: are they all read?", links)
	}
}

// leads tells what is wrong with a link in the file from. Links to other hosts are not followed.
func leads(from, target string, there map[string]bool, docs map[string]document) error {
	u, err := url.Parse(target)
	if err != nil {
		return err
	}
	if u.Scheme != "" {
		return nil
	}
	file := from
	if u.Path != "" {
		file = filepath.Join(filepath.Dir(from), u.Path)
	}
	if !there[file] {
		return fmt.Errorf("there is no file %s", file)
	}
	if u.Fragment == "" {
		return nil
	}
	doc, ok := docs[file]
	if !ok {
		return fmt.Errorf("an anchor, but %s is no Markdown", file)
	}
	seen := map[string]int{}
	for _, h := range doc.headings {
		id := anchor(h.text)
		if n := seen[id]; n > 0 {
			id = fmt.Sprintf("%s-%d", id, n)
		}
		seen[anchor(h.text)]++
		if id == u.Fragment {
			return nil
		}
	}
	return fmt.Errorf("no heading of %s has that anchor", file)
}

func TestWrongLinksAreFound(t *testing.T) {
	const text = "# A b: `c`!\n\n## Twice\n\n## Twice\n\n[x](#a-b-c) `[y](none.md)` [z](d.md \"title\")\n```\n[in a block](none.md)\n```\n"
	doc := parse(text)
	if got := fmt.Sprint(doc.links); got != "[{7 #a-b-c} {7 d.md}]" {
		t.Errorf("links: %s", got)
	}
	there, docs := map[string]bool{"docs/a.md": true, "docs/b.svg": true, "docs": true}, map[string]document{"docs/a.md": doc}
	for target, wrong := range map[string]bool{
		"#a-b-c": false, "a.md#a-b-c": false, "#twice-1": false, "#twice-2": true, "#a-b": true, "none.md": true, "b.svg": false, "b.svg#x": true,
		"../docs": false, "https://example.com/none": false, "../a.md": true,
	} {
		if err := leads("docs/a.md", target, there, docs); (err != nil) != wrong {
			t.Errorf("%s: %v, wrong is %v", target, err, wrong)
		}
	}
}
