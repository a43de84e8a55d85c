package logs

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// What parse makes of a text depends on the text of the entry alone, and the same entry
// is found again in the middle of anything.
func FuzzParse(f *testing.F) {
	whole := frame("stdout", "text", 1753700000000000000, 0)
	f.Add(whole)
	f.Add(frame("stderr", strings.Repeat("x", 300), 1, 1))
	f.Add(frame("stdout", "", 1, 2))
	f.Add(frame("stdin", "", 1, 0))
	f.Add(whole[:10])
	f.Add([]byte{0, 0, 0, 0, 0, 0, 0, 0})
	f.Add([]byte{0xff, 0xff, 0xff, 0xff})
	f.Fuzz(func(t *testing.T, text []byte) {
		e, n, err := parse(text)
		if err != nil {
			if !errors.Is(err, errIncomplete) && !errors.Is(err, errDamaged) || n != 0 {
				t.Fatalf("error %v, length %d", err, n)
			}
			if at := find(text); at == 0 {
				t.Fatal("found where there is no entry")
			}
			return
		}
		if n < headSize && len(e.line) > 0 || n > len(text) || n > maxEntry+2*lengthSize {
			t.Fatalf("length %d of %d", n, len(text))
		}
		again, m, err := parse(text[:n])
		if err != nil || m != n || string(again.line) != string(e.line) || again.time != e.time || again.partial != e.partial {
			t.Fatalf("%+v, %d, %v after %+v, %d", again, m, err, e, n)
		}
		if _, _, err := parse(text[:n-1]); !errors.Is(err, errIncomplete) {
			t.Fatalf("without its last byte: %v", err)
		}
		line := appendEntry(nil, e)
		if !strings.Contains(string(line), " "+string(e.source)+" ") || line[len(line)-1] != '\n' {
			t.Fatalf("line %q", line)
		}
	})
}

func TestParseAllocatesNothing(t *testing.T) {
	text := frame("stdout", strings.Repeat("x", 100), 1753700000000000000, 1)
	out := make([]byte, 0, 1024)
	if got := testing.AllocsPerRun(100, func() {
		e, _, _ := parse(text)
		out = appendEntry(out[:0], e)
	}); got != 0 {
		t.Errorf("%v allocations", got)
	}
}

// BenchmarkFollow is of reading, formatting and appending lines of 100 bytes.
func BenchmarkFollow(b *testing.B) {
	n := newNode(b)
	n.engine.start()
	var all []byte
	const lines = 100000
	for range lines {
		all = append(all, n.engine.next("stdout", strings.Repeat("x", 100), 0)...)
	}
	n.engine.must(os.WriteFile(n.engine.path(newestName), all, 0o640))
	b.SetBytes(int64(len(all)))
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		n.source.ID = fmt.Sprint("c", i)
		n.source.Path = filepath.Join(filepath.Dir(n.path), fmt.Sprint(i, ".log"))
		f, stop := n.follow()
		if err := f.Drain(patience(b), n.source.ID); err != nil {
			b.Fatal(err)
		}
		stop()
		n.engine.must(os.Remove(n.source.Path))
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/lines, "ns/line")
}
