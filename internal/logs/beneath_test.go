package logs

import (
	"errors"
	"os"
	"path/filepath"
	"sync"
	"testing"

	"github.com/containerd/errdefs"
)

// elsewhere is a directory with a file that nothing may be written to.
func elsewhere(t *testing.T) (dir string, untouched func()) {
	t.Helper()
	dir = t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "0.log"), []byte("a user's own"), 0o600); err != nil {
		t.Fatal(err)
	}
	return dir, func() {
		t.Helper()
		same(t, text(t, filepath.Join(dir, "0.log")), "a user's own")
		if left, err := os.ReadDir(dir); err != nil || len(left) != 1 {
			t.Errorf("elsewhere are now %v, %v", left, err)
		}
	}
}

func TestSymbolicLinksOutOfTheLogDirectoryAreRefused(t *testing.T) {
	for name, link := range map[string]func(n *node, elsewhere string) (target, at string){
		"the log file":           func(n *node, e string) (string, string) { return filepath.Join(e, "0.log"), n.path },
		"a file that is not yet": func(n *node, e string) (string, string) { return filepath.Join(e, "new.log"), n.path },
		"its directory":          func(n *node, e string) (string, string) { return e, filepath.Dir(n.path) },
		"upwards": func(n *node, e string) (string, string) {
			relative, err := filepath.Rel(filepath.Dir(n.path), filepath.Join(e, "0.log"))
			n.engine.must(err)
			return relative, n.path
		},
	} {
		t.Run(name, func(t *testing.T) {
			n := newNode(t)
			dir, untouched := elsewhere(t)
			target, at := link(n, dir)
			n.engine.must(os.MkdirAll(filepath.Dir(at), 0o755))
			n.engine.must(os.Symlink(target, at))
			n.engine.start()
			n.engine.log("stdout", "root::0:0::/:/bin/sh", 0)
			f := New(Options{StateDir: n.state, Logger: discard()})
			err := f.Follow(patience(t), n.source)
			if !errors.Is(err, errdefs.ErrFailedPrecondition) {
				t.Errorf("error %v", err)
			}
			untouched()
		})
	}
}

// What stays inside is allowed, and the log directory itself is where the administrator
// wants it.
func TestSymbolicLinksThatTheAdministratorMade(t *testing.T) {
	n := newNode(t)
	real := t.TempDir()
	n.engine.must(os.MkdirAll(filepath.Dir(n.source.Root), 0o755))
	n.engine.must(os.Symlink(real, n.source.Root))
	n.engine.must(os.MkdirAll(filepath.Join(real, "other"), 0o755))
	n.engine.must(os.Symlink("other", filepath.Join(real, "app")))
	n.engine.start()
	f, stop := n.follow()
	defer stop()
	n.engine.log("stdout", "one", 0)
	n.drain(f)
	same(t, text(t, filepath.Join(real, "other", "0.log")), n.engine.want())
}

// Whoever exchanges the log file's directory all the time gets nothing written elsewhere.
func TestLogDirectoryIsExchangedAllTheTime(t *testing.T) {
	n := newNode(t)
	dir, untouched := elsewhere(t)
	at, aside := filepath.Dir(n.path), filepath.Dir(n.path)+".aside"
	n.engine.must(os.MkdirAll(at, 0o755))
	n.engine.start()
	f, stop := n.follow()
	ended := make(chan struct{})
	var group sync.WaitGroup
	group.Go(func() {
		for {
			select {
			case <-ended:
				return
			default:
			}
			// Some of it fails, as the follower makes the directory again.
			_ = os.Rename(at, aside)
			_ = os.Symlink(dir, at)
			_ = os.Remove(at)
			_ = os.Rename(aside, at)
			_ = os.RemoveAll(aside)
		}
	})
	refused, reopened := 0, 0
	for i := 0; i < 2000 || refused == 0 || reopened == 0; i++ {
		if i > 200_000 {
			t.Errorf("%d times refused, %d times reopened: this test shows nothing", refused, reopened)
			break
		}
		n.engine.log("stdout", "x", 0)
		switch err := f.Reopen(patience(t), "c1"); {
		case err == nil:
			reopened++
		case errors.Is(err, errdefs.ErrFailedPrecondition):
			refused++
		}
	}
	close(ended)
	group.Wait()
	stop()
	untouched()
	t.Logf("%d times refused, %d times reopened", refused, reopened)
}
