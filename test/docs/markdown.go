package main

import (
	"regexp"
	"strings"
)

// A document is a Markdown file as far as its commands and its links need it.
type document struct {
	headings []heading
	blocks   []block
	links    []link
}

type heading struct {
	line int
	text string
}

// A block is fenced by three or more backticks.
type block struct {
	line     int // of its first line of content
	language string
	text     string // with an end of line
	heading  string // that it stands below
}

// A link is what stands in the parentheses of one, or in src of an image.
type link struct {
	line   int
	target string
}

var (
	fence    = regexp.MustCompile("^ {0,3}(`{3,})\\s*([A-Za-z0-9]*)\\s*$")
	atx      = regexp.MustCompile(`^#{1,6} +(.*?)(?: +#+)? *$`)
	code     = regexp.MustCompile("`[^`]*`")
	anyLink  = regexp.MustCompile(`\]\(<?([^)<>\s]+)>?(?:\s+"[^"]*")?\)`)
	imageTag = regexp.MustCompile(`<img[^>]*\ssrc="([^"]+)"`)
)

// parse reads what MasCRI's own documents use of Markdown: fences of backticks, headings
// that begin with "#", and links in line.
func parse(text string) document {
	var d document
	var open string // the fence that ends the block
	for i, line := range strings.Split(text, "\n") {
		if open != "" {
			b := &d.blocks[len(d.blocks)-1]
			if m := fence.FindStringSubmatch(line); m != nil && m[2] == "" && len(m[1]) >= len(open) {
				open = ""
				continue
			}
			b.text += line + "\n"
			continue
		}
		if m := fence.FindStringSubmatch(line); m != nil {
			open = m[1]
			d.blocks = append(d.blocks, block{line: i + 2, language: m[2], heading: d.below()})
			continue
		}
		if m := atx.FindStringSubmatch(line); m != nil {
			d.headings = append(d.headings, heading{i + 1, m[1]})
		}
		prose := code.ReplaceAllString(line, "")
		for _, pattern := range []*regexp.Regexp{anyLink, imageTag} {
			for _, m := range pattern.FindAllStringSubmatch(prose, -1) {
				d.links = append(d.links, link{i + 1, m[1]})
			}
		}
	}
	return d
}

// below is the heading that the next line stands below.
func (d *document) below() string {
	if len(d.headings) == 0 {
		return ""
	}
	return d.headings[len(d.headings)-1].text
}

var (
	linkText    = regexp.MustCompile(`\[([^\]]*)\]\([^)]*\)`)
	noPartOfIDs = regexp.MustCompile(`[^\p{L}\p{N}\p{M}_ -]`)
)

// anchor is the id that GitHub gives to a heading, but for the number behind the second of
// one name.
func anchor(heading string) string {
	text := linkText.ReplaceAllString(heading, "$1")
	text = noPartOfIDs.ReplaceAllString(strings.ToLower(text), "")
	return strings.ReplaceAll(text, " ", "-")
}
