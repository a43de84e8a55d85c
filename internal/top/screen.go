package top

import (
	"fmt"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/mascri/mascri/internal/podview"
	"github.com/mascri/mascri/internal/table"
)

// reverse is the escape sequence for the selected line.
const reverse = "\x1b[7m"

// around is how many lines are not of pods: title, heads and keys.
const around = 3

// screen is what is shown. It is not for concurrent use.
type screen struct {
	usage    podview.Usage
	sampled  bool  // usage is of a sample
	err      error // of the last sample
	interval time.Duration
	colour   bool

	order   podview.Order
	open    bool            // whether containers are shown, of pods that are not turned
	turned  map[string]bool // pods that are the other way round, by id
	current string          // id of the selected pod
	above   int             // how many rows are scrolled out at the top

	width, height int
}

// update shows another sample.
func (s *screen) update(usage podview.Usage) {
	s.usage, s.sampled, s.err = usage, true, nil
	s.usage.Sort(s.order)
}

// press does what a key stands for, and tells whether that is to quit.
func (s *screen) press(k key) (quit bool) {
	switch k {
	case keyQuit:
		return true
	case keyCPU:
		s.order = podview.ByCPU
	case keyMemory:
		s.order = podview.ByMemory
	case keyNetwork:
		s.order = podview.ByNetwork
	case keyName:
		s.order = podview.ByName
	case keyUp:
		s.move(-1)
	case keyDown:
		s.move(1)
	case keyPageUp:
		s.move(-s.room())
	case keyPageDown:
		s.move(s.room())
	case keyFold:
		if i := s.selected(); i >= 0 {
			id := s.usage.Pods[i].ID
			s.turned[id] = !s.turned[id]
		}
	case keyFoldAll:
		s.open, s.turned = !s.open, map[string]bool{}
	}
	s.usage.Sort(s.order)
	return false
}

// selected is the place of the selected pod, which is the first where it is gone; -1 if
// there is none.
func (s *screen) selected() int {
	i := slices.IndexFunc(s.usage.Pods, func(p podview.PodUsage) bool { return p.ID == s.current })
	if i < 0 && len(s.usage.Pods) > 0 {
		i = 0
	}
	return i
}

func (s *screen) move(by int) {
	if i := s.selected(); i >= 0 {
		s.current = s.usage.Pods[min(max(0, i+by), len(s.usage.Pods)-1)].ID
	}
}

// room is how many rows there is place for.
func (s *screen) room() int { return max(1, s.height-around) }

func (s *screen) isOpen(podID string) bool { return s.open != s.turned[podID] }

// lines are what the terminal is to show, height of them at most.
func (s *screen) lines() []string {
	t := podview.UsageTable(s.width)
	rows := s.usage.Rows(s.isOpen)
	selected, at := "", -1
	if i := s.selected(); i >= 0 {
		selected = s.usage.Pods[i].ID
	}
	for i, row := range rows {
		name := "▸ " + row.Name
		switch {
		case row.Container:
			name = "    " + row.Name
		case s.isOpen(row.PodID):
			name = "▾ " + row.Name
		}
		if row.PodID == selected && !row.Container {
			at = i
		}
		t.Add(append([]string{name}, row.Cells...)...)
	}
	lines := t.Lines()
	heads, body := lines[0], lines[1:]
	s.scroll(at, len(body))
	if at >= 0 {
		body[at] = reverse + pad(body[at], s.width) + table.Plain
	}
	body = body[s.above:min(len(body), s.above+s.room())]
	if len(body) == 0 && s.sampled {
		body = []string{t.None}
	}
	if s.colour {
		heads = table.Bold + heads + table.Plain
	}
	shown := append([]string{s.title(), heads}, body...)
	for len(shown) < s.height-1 {
		shown = append(shown, "")
	}
	shown = append(shown, cut("q quit  c CPU  m memory  n network  a name  enter containers  f all of them", s.width))
	return shown[:min(len(shown), max(0, s.height))]
}

// scroll keeps row at, which is -1 if there is none, among those that are shown.
func (s *screen) scroll(at, rows int) {
	if at >= 0 {
		s.above = max(min(s.above, at), at-s.room()+1)
	}
	s.above = max(0, min(s.above, rows-s.room()))
}

// title is a line about all pods, or what is wrong.
func (s *screen) title() string {
	if s.err != nil {
		text := cut("no answer: "+strings.Join(strings.Fields(s.err.Error()), " "), s.width)
		if s.colour {
			text = table.Red + text + table.Plain
		}
		return text
	}
	if !s.sampled {
		return "mascri top: asking"
	}
	containers, cores, memory := 0, 0.0, uint64(0)
	for _, p := range s.usage.Pods {
		containers += len(p.Containers)
		if p.Cores != nil {
			cores += *p.Cores
		}
		if p.Memory != nil {
			memory += *p.Memory
		}
	}
	return cut(fmt.Sprintf("%d pods, %d containers  CPU %.1f %%  memory %s  by %s, every %s",
		len(s.usage.Pods), containers, 100*cores, table.Bytes(memory), s.order, s.interval), s.width)
}

func cut(text string, width int) string {
	runes := []rune(text)
	return string(runes[:min(len(runes), max(0, width))])
}

func pad(text string, width int) string {
	return text + strings.Repeat(" ", max(0, width-utf8.RuneCountInString(text)))
}
