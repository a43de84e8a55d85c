package top

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/mascri/mascri/internal/golden"
	"github.com/mascri/mascri/internal/podview"
)

func figures(cores float64, memory uint64) podview.Figures {
	return podview.Figures{Cores: &cores, Memory: &memory}
}

func newScreen() *screen {
	s := &screen{interval: time.Second, order: podview.ByCPU, turned: map[string]bool{}, width: 80, height: 12}
	rate := 1500.0
	s.update(podview.Usage{Pods: []podview.PodUsage{
		{ID: "a", Namespace: "default", Name: "idle", Figures: figures(0, 3<<20)},
		{
			ID: "b", Namespace: "default", Name: "busy", Figures: figures(1.5, 1<<20),
			Network:    &podview.NetworkUsage{ReceivedRate: &rate, SentRate: &rate},
			Containers: []podview.ContainerUsage{{ID: "ba", Name: "app", Figures: figures(1.25, 1<<19)}, {ID: "bb", Name: "log", Figures: figures(0.25, 1<<18)}},
		},
		{ID: "c", Namespace: "kube-system", Name: "large", Figures: figures(0.5, 9<<30)},
	}})
	return s
}

func (s *screen) text() string { return strings.Join(s.lines(), "\n") + "\n" }

func TestScreen(t *testing.T) {
	s := newScreen()
	golden.Compare(t, "folded.txt", []byte(s.text()))
	s.press(keyFold)
	golden.Compare(t, "one-open.txt", []byte(s.text()))
	s.press(keyFoldAll)
	s.press(keyMemory)
	s.press(keyDown)
	golden.Compare(t, "all-open-by-memory.txt", []byte(s.text()))
	s.err = errors.New("no runtime\nis there")
	if title := s.lines()[0]; title != "no answer: no runtime is there" {
		t.Errorf("title %q", title)
	}
	s.update(podview.Usage{})
	golden.Compare(t, "empty.txt", []byte(s.text()))
}

func TestKeysSort(t *testing.T) {
	for k, want := range map[key]string{keyCPU: "busy", keyMemory: "large", keyNetwork: "busy", keyName: "busy"} {
		s := newScreen()
		if s.press(k); s.usage.Pods[0].Name != want {
			t.Errorf("key %d: %s is first, want %s", k, s.usage.Pods[0].Name, want)
		}
	}
	if s := newScreen(); !s.press(keyQuit) || s.press(keyCPU) {
		t.Error("q alone quits")
	}
}

func TestTheSelectedPodStaysInSightAndSelected(t *testing.T) {
	s := newScreen()
	s.open = true
	for _, height := range []int{0, 1, 2, 3, 4, 5, 12} {
		for _, width := range []int{1, 30, 80} {
			s.width, s.height = width, height
			for _, k := range []key{keyDown, keyDown, keyDown, keyUp, keyPageDown, keyPageUp, keyPageUp} {
				s.press(k)
				lines := s.lines()
				if len(lines) != height {
					t.Fatalf("%d lines for a height of %d", len(lines), height)
				}
				if at := slices.IndexFunc(lines, func(l string) bool { return strings.HasPrefix(l, reverse) }); height > around && at < 0 {
					t.Errorf("%d x %d: the selected pod is out of sight:\n%s", width, height, s.text())
				}
			}
		}
	}
	s.press(keyMemory)
	s.move(1) // away from the first
	current := s.current
	if s.press(keyCPU); s.usage.Pods[s.selected()].ID != current {
		t.Errorf("another order selects %s, not %s", s.usage.Pods[s.selected()].ID, current)
	}
	s.update(podview.Usage{Pods: s.usage.Pods[:1]})
	if s.selected() != 0 {
		t.Errorf("selected %d, when the pod is gone", s.selected())
	}
}

func TestLinesFit(t *testing.T) {
	s := newScreen()
	for _, line := range s.lines() {
		if bare := strings.NewReplacer(reverse, "", "\x1b[0m", "").Replace(line); utf8.RuneCountInString(bare) > 80 {
			t.Errorf("%d columns: %s", utf8.RuneCountInString(bare), line)
		}
	}
}

func TestKeysThatComeInPieces(t *testing.T) {
	for sent, want := range map[string][]key{
		"cq":                {keyCPU, keyQuit},
		"\x1b[A\x1bOB":      {keyUp, keyDown},
		"\x1b[5~\x1b[6~":    {keyPageUp, keyPageDown},
		"\x1b[1;5Cm":        {keyMemory}, // ctrl-right means nothing
		"\x1bm":             {keyMemory},
		"\x1b\x1b[A":        {keyUp},
		"xyz\xff\r \n":      {keyFold, keyFold, keyFold},
		"\x03":              {keyQuit},
		"\x1b[<0;1;1Mf\x1b": {keyFoldAll},
	} {
		for size := 1; size <= len(sent); size++ {
			var got []key
			rest := ""
			for piece := range slices.Chunk([]byte(sent), size) {
				var found []key
				found, rest = parseKeys(rest + string(piece))
				got = append(got, found...)
			}
			if !slices.Equal(got, want) {
				t.Errorf("%q in pieces of %d: %v, want %v", sent, size, got, want)
			}
		}
	}
}
