package kubelet

import (
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"testing"
	"time"
)

func logs(t *testing.T, b bench) {
	b.add(t, "logs", `
terminationGracePeriodSeconds: 1
volumes:
- {name: kept, emptyDir: {}}
containers:
- name: main
  image: IMAGE
  command: [sh, -c, "if [ ! -e /kept/f ]; then touch /kept/f; echo the former; exit 1; fi; echo out 1; echo err 2 >&2; sleep 6; seq 3 9; trap exit TERM; sleep inf & wait"]
  volumeMounts: [{name: kept, mountPath: /kept}]`)
	b.until(t, "logs", "was restarted", func(p pod) bool {
		return p.container("main").RestartCount == 1 && p.container("main").State.Running != nil
	})
	all := await(t, patience, "the log is whole", func() (string, error) {
		text, err := b.get("/containerLogs/default/logs" + suffix + "/main")
		if err == nil && !strings.HasSuffix(text, "9\n") {
			err = fmt.Errorf("it is %q", text)
		}
		return text, err
	})
	// The order of what goes to two pipes at once is nobody's.
	if all != "out 1\nerr 2\n3\n4\n5\n6\n7\n8\n9\n" && all != "err 2\nout 1\n3\n4\n5\n6\n7\n8\n9\n" {
		t.Errorf("log %q", all)
	}
	// The pod slept for 6 s before 3.
	third, err := time.Parse(time.RFC3339Nano, strings.Fields(b.log(t, "logs", "main", "timestamps=true&tailLines=7"))[0])
	if err != nil {
		t.Fatal(err)
	}
	since := fmt.Sprintf("sinceSeconds=%.0f", time.Since(third).Seconds()+3)
	for query, want := range map[string]string{
		"tailLines=2":              "8\n9\n",
		"tailLines=4&limitBytes=3": "6\n7",
		since:                      "3\n4\n5\n6\n7\n8\n9\n",
		"previous=true":            "the former\n",
	} {
		if got := b.log(t, "logs", "main", query); got != want && got != want+"\n" {
			t.Errorf("%s: %q, want %q", query, got, want)
		}
	}
	stamped := b.log(t, "logs", "main", "timestamps=true&tailLines=1")
	if at, err := time.Parse(time.RFC3339Nano, strings.TrimSuffix(stamped, " 9\n")); err != nil || time.Since(at) > time.Minute {
		t.Errorf("%q", stamped)
	}
	b.shows(t, "logs by the kubelet's API with tail, since, previous, limit and timestamps", "all %q, previous %q, last %q", all, "the former", stamped)
}

// The kubelet rotates while the container writes and somebody follows.
func rotation(t *testing.T, b bench) {
	const lines = 60000
	b.add(t, "rotation", `
terminationGracePeriodSeconds: 1
containers:
- name: main
  image: IMAGE
  command: [sh, -c, "for i in $(seq 0 29); do seq $((i*2000+1)) $((i*2000+2000)) | sed 's/.*/line & of the container/'; sleep 0.3; done; echo end; trap exit TERM; sleep inf & wait"]`)
	p := b.untilReady(t, "rotation")
	followed := make(chan string, 1)
	go func() {
		text, _ := fetchUntil("https://127.0.0.1:"+port+"/containerLogs/default/rotation"+suffix+"/main?follow=true", "end\n", patience)
		followed <- text
	}()
	files := 0
	whole := await(t, patience, "all lines are written", func() (lines []string, err error) {
		lines, files, err = written("rotation", p)
		if err == nil && (len(lines) == 0 || lines[len(lines)-1] != "end") {
			err = fmt.Errorf("there are %d lines in %d files", len(lines), files)
		}
		return lines, err
	})
	if missing := inOrder(whole, lines); missing != "" {
		t.Errorf("%d files: %s", files, missing)
	}
	if files < 3 {
		t.Errorf("%d files: it was not rotated under load", files)
	}
	if missing := inOrder(strings.Split(strings.TrimSuffix(<-followed, "\n"), "\n"), lines); missing != "" {
		t.Errorf("who followed: %s", missing)
	}
	b.shows(t, "logs rotate under load and nothing is lost", "%d lines in %d files, all in order; all of them by follow=true, too", lines, files)
}

// written returns the lines of a container main in all of its log files, and their number.
// The error may be that the kubelet is just about to compress one.
func written(name string, p pod) (lines []string, files int, err error) {
	dir := "/var/log/pods/default_" + name + suffix + "_" + p.Metadata.UID + "/main/"
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, 0, err
	}
	var names []string
	for _, entry := range entries {
		names = append(names, entry.Name())
	}
	// 0.log.<time> and 0.log.<time>.gz come before 0.log itself.
	slices.Sort(names)
	names = append(names[1:], names[0])
	for _, file := range names {
		if strings.HasSuffix(file, ".tmp") {
			return nil, 0, errors.New(file + " is not whole")
		}
		messages, err := messages(dir + file)
		if err != nil {
			return nil, 0, fmt.Errorf("%s: %w", file, err)
		}
		lines = append(lines, messages...)
	}
	return lines, len(names), nil
}

// messages returns the lines of a CRI log file without what the format adds.
func messages(file string) (messages []string, err error) {
	f, err := os.Open(file)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	in := io.Reader(f)
	if strings.HasSuffix(file, ".gz") {
		if in, err = gzip.NewReader(f); err != nil {
			return nil, err
		}
	}
	text, err := io.ReadAll(in)
	if err != nil {
		return nil, err
	}
	for line := range strings.Lines(string(text)) {
		parts := strings.SplitN(strings.TrimSuffix(line, "\n"), " ", 4)
		if len(parts) != 4 || parts[2] != "F" {
			return nil, fmt.Errorf("line %q", line)
		}
		messages = append(messages, parts[3])
	}
	return messages, nil
}

// inOrder says what is wrong with lines, which should be numbered up to n, and "end".
func inOrder(lines []string, n int) string {
	for i := range n + 1 {
		want := fmt.Sprintf("line %d of the container", i+1)
		if i == n {
			want = "end"
		}
		if i >= len(lines) || lines[i] != want {
			return fmt.Sprintf("%d lines; line %d is %q, want %q", len(lines), i+1, append(lines, make([]string, n+1)...)[i], want)
		}
	}
	if len(lines) != n+1 {
		return fmt.Sprintf("%d lines, want %d", len(lines), n+1)
	}
	return ""
}
