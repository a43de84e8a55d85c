package metrics

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"
)

// serve runs a server until the test's end.
func serve(t *testing.T, s *Server) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- s.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; !errors.Is(err, context.Canceled) {
			t.Errorf("Run returned %v", err)
		}
	})
}

// waitFor waits until the server tells what want likes.
func waitFor(t *testing.T, s *Server, want func(Serving) bool) Serving {
	t.Helper()
	for end := time.Now().Add(20 * time.Second); time.Now().Before(end); time.Sleep(5 * time.Millisecond) {
		if want(s.Serving()) {
			return s.Serving()
		}
	}
	t.Fatalf("the server tells %+v", s.Serving())
	return Serving{}
}

func bound(s Serving) bool { return s.Error == "" && !strings.HasSuffix(s.Address, ":0") }

func get(t *testing.T, url string) (code int, body string) {
	t.Helper()
	resp, err := http.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(text)
}

func TestProfilesAreServedOnlyWhereAskedFor(t *testing.T) {
	for _, profiles := range []bool{false, true} {
		s := NewServer(used(), "127.0.0.1:0", profiles, slog.New(slog.DiscardHandler))
		serve(t, s)
		at := waitFor(t, s, bound).Address
		if code, body := get(t, "http://"+at+"/metrics"); code != http.StatusOK || !strings.Contains(body, `mascri_build_info{arch=`) {
			t.Errorf("/metrics: %d, %s", code, body)
		}
		want := http.StatusNotFound
		if profiles {
			want = http.StatusOK
		}
		for _, path := range []string{"/debug/pprof/", "/debug/pprof/heap", "/debug/pprof/cmdline"} {
			if code, _ := get(t, "http://"+at+path); code != want {
				t.Errorf("profiles %v: %s is answered by %d, want %d", profiles, path, code, want)
			}
		}
	}
}

func TestAnAddressThatIsTakenIsWaitedFor(t *testing.T) {
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := NewServer(New("1", "2"), taken.Addr().String(), false, slog.New(slog.DiscardHandler))
	s.retry = 10 * time.Millisecond
	serve(t, s)
	if told := waitFor(t, s, func(s Serving) bool { return s.Error != "" }); !strings.Contains(told.Error, "address already in use") {
		t.Errorf("the server tells %+v", told)
	}
	taken.Close()
	at := waitFor(t, s, func(s Serving) bool { return s.Error == "" }).Address
	if code, _ := get(t, "http://"+at+"/metrics"); code != http.StatusOK {
		t.Errorf("/metrics: %d", code)
	}
}

func TestNoAddressServesNowhere(t *testing.T) {
	s := NewServer(New("1", "2"), "", false, slog.New(slog.DiscardHandler))
	serve(t, s)
	if told := s.Serving(); told != (Serving{}) {
		t.Errorf("the server tells %+v", told)
	}
}
