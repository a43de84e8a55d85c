package kubelet

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/url"
	"os/exec"
	"strings"
	"testing"
	"time"
)

func streams(t *testing.T, b bench) {
	b.add(t, "streams", `
terminationGracePeriodSeconds: 1
containers:
- name: main
  image: IMAGE
  stdin: true
  command: [sh, -c, "mkdir /www; echo through > /www/f; httpd -p 127.0.0.1:8080 -h /www; while read line; do echo got $line; done"]
- {name: terminal, image: IMAGE, stdin: true, tty: true, command: [sh]}`)
	b.untilReady(t, "streams")
	for _, protocol := range []string{"SPDY", "WebSocket"} {
		said := b.exec(t, protocol, "main", "in", `read x; echo "got $x"; echo problem >&2; exit 7`)
		if said != "got in|problem|exit status 7" {
			t.Errorf("exec by %s: %q", protocol, said)
		}
		b.shows(t, "exec by "+protocol, "%q", said)

		said = b.attach(t, protocol)
		if !strings.Contains(said, "got words by "+protocol) {
			t.Errorf("attach by %s: %q", protocol, said)
		}
		b.shows(t, "attach by "+protocol, "%q", said)

		said = b.terminal(t, protocol)
		if !strings.Contains(said, "33 91") {
			t.Errorf("terminal by %s: %q", protocol, said)
		}
		b.shows(t, "a terminal of its client's size by "+protocol, "%q", said)

		said = b.portForward(t, protocol)
		if said != "through\n" {
			t.Errorf("port-forward by %s: %q", protocol, said)
		}
		b.shows(t, "port-forward by "+protocol, "a page of a server on the pod's loopback: %q", said)
	}
}

// client is the command of a client of one of the kubelet's streams.
func (b bench) client(t *testing.T, protocol, path string, flags ...string) *exec.Cmd {
	t.Helper()
	if protocol == "WebSocket" {
		flags = append(flags, "-websocket")
	}
	return exec.CommandContext(t.Context(), repo(t, "bin/kubelet-stream"), append(flags, "https://127.0.0.1:"+port+path)...)
}

// exec runs a shell's words in a container, and returns output, error output and end.
func (b bench) exec(t *testing.T, protocol, container, stdin, words string) string {
	t.Helper()
	query := url.Values{"command": {"sh", "-c", words}, "input": {"1"}, "output": {"1"}, "error": {"1"}}
	client := b.client(t, protocol, "/exec/default/streams"+suffix+"/"+container+"?"+query.Encode(), "-stdin")
	var stdout, stderr strings.Builder
	client.Stdin, client.Stdout, client.Stderr = strings.NewReader(stdin+"\n"), &stdout, &stderr
	err := client.Run()
	return fmt.Sprintf("%s|%s|%v", strings.TrimSpace(stdout.String()), strings.TrimSpace(stderr.String()), err)
}

// attach sends a line to a container's first process and returns what that says.
func (b bench) attach(t *testing.T, protocol string) string {
	t.Helper()
	client := b.client(t, protocol, "/attach/default/streams"+suffix+"/main?input=1&output=1&error=1", "-stdin")
	return converse(t, client, "words by "+protocol+"\n", "got words by "+protocol)
}

func (b bench) terminal(t *testing.T, protocol string) string {
	t.Helper()
	query := url.Values{"command": {"sh"}, "input": {"1"}, "output": {"1"}, "tty": {"1"}}
	client := b.client(t, protocol, "/exec/default/streams"+suffix+"/terminal?"+query.Encode(), "-stdin", "-tty")
	return converse(t, client, "stty size\n", "33 91")
}

// converse sends words to a client's standard input until it said want, and ends it. What
// is sent before an attach is done is the process's too, but its answer is lost.
func converse(t *testing.T, client *exec.Cmd, words, want string) string {
	t.Helper()
	in, err := client.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := client.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := client.Start(); err != nil {
		t.Fatal(err)
	}
	said := make(chan string, 1)
	go func() {
		var text strings.Builder
		for chunk := make([]byte, 4096); !strings.Contains(text.String(), want); {
			n, err := out.Read(chunk)
			text.Write(chunk[:n])
			if err != nil {
				text.WriteString(err.Error())
				break
			}
		}
		said <- text.String()
	}()
	defer func() { _ = client.Process.Kill(); _ = client.Wait() }()
	for end := time.Now().Add(patience); time.Now().Before(end); {
		select {
		case text := <-said:
			return text
		case <-time.After(500 * time.Millisecond):
		}
		if _, err := io.WriteString(in, words); err != nil {
			t.Fatal(err)
		}
	}
	t.Errorf("%v does not say %q", client.Args, want)
	return ""
}

func (b bench) portForward(t *testing.T, protocol string) string {
	t.Helper()
	free, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	_, local, _ := net.SplitHostPort(free.Addr().String()) // it is an address
	free.Close()
	client := b.client(t, protocol, "/portForward/default/streams"+suffix, "-forward", local+":8080")
	in, err := client.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := client.Start(); err != nil {
		t.Fatal(err)
	}
	page := await(t, patience, "the port is forwarded", func() (string, error) {
		return fetch("http://127.0.0.1:" + local + "/f")
	})
	in.Close()
	if err := client.Wait(); err != nil && !errors.Is(err, io.EOF) {
		t.Errorf("port-forward: %v", err)
	}
	return page
}
