package kubelet

import (
	"bytes"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	cri "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// podList is what the kubelet tells of pods, as far as tests look.
type podList struct{ Items []pod }

type pod struct {
	Metadata struct {
		Name, UID string
	}
	Status struct {
		Phase, PodIP, QOSClass                   string
		Conditions                               []struct{ Type, Status string }
		InitContainerStatuses, ContainerStatuses []containerStatus
	}
}

type containerStatus struct {
	Name, ContainerID, Image, ImageID string
	RestartCount                      int
	Ready, Started                    bool
	State, LastState                  containerState
	Resources                         struct{ Limits map[string]string }
	User                              struct {
		Linux struct {
			UID, GID           int64
			SupplementalGroups []int64
		}
	}
}

// id is the container's as the runtime has it.
func (s containerStatus) id() string { return strings.TrimPrefix(s.ContainerID, "mascri://") }

type containerState struct {
	Waiting    *struct{ Reason, Message string }
	Running    *struct{ StartedAt time.Time }
	Terminated *struct {
		Reason, Message       string
		ExitCode              int
		StartedAt, FinishedAt time.Time
	}
}

func (s containerState) String() string {
	text, _ := json.Marshal(s) // always can
	return string(text)
}

// ready tells whether the kubelet holds the pod for ready.
func (p pod) ready() bool {
	for _, c := range p.Status.Conditions {
		if c.Type == "Ready" && c.Status == "True" {
			return true
		}
	}
	return false
}

// container returns the status of a container, be it an init container or not.
func (p pod) container(name string) containerStatus {
	for _, c := range append(p.Status.InitContainerStatuses, p.Status.ContainerStatuses...) {
		if c.Name == name {
			return c
		}
	}
	return containerStatus{}
}

var insecure13 = &http.Client{
	Timeout:   20 * time.Second,
	Transport: &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}, DisableKeepAlives: true},
}

// get asks the kubelet's API.
func (n *node) get(path string) (string, error) {
	return fetch("https://127.0.0.1:" + port + path)
}

func fetch(url string) (string, error) {
	resp, err := insecure13.Get(url)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err == nil && resp.StatusCode != http.StatusOK {
		err = fmt.Errorf("GET %s: %s: %s", url, resp.Status, text)
	}
	return string(text), err
}

// fetchUntil reads an answer that does not end, up to its last words or for a limit.
func fetchUntil(url, last string, limit time.Duration) (string, error) {
	client := *insecure13
	client.Timeout = limit
	resp, err := client.Get(url)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	var text bytes.Buffer
	for chunk := make([]byte, 32<<10); !bytes.HasSuffix(text.Bytes(), []byte(last)); {
		n, err := resp.Body.Read(chunk)
		text.Write(chunk[:n])
		if err != nil {
			return text.String(), err
		}
	}
	return text.String(), nil
}

// pods returns all pods that the kubelet knows, by their manifests' names.
func (n *node) pods() (map[string]pod, error) {
	text, err := fetch("http://127.0.0.1:" + readOnly + "/pods")
	if err != nil {
		return nil, err
	}
	var list podList
	if err := json.Unmarshal([]byte(text), &list); err != nil {
		return nil, err
	}
	pods := map[string]pod{}
	for _, p := range list.Items {
		pods[strings.TrimSuffix(p.Metadata.Name, suffix)] = p
	}
	return pods, nil
}

// add makes a static pod of a spec in YAML.
func (n *node) add(t *testing.T, name, spec string) {
	t.Helper()
	n.addAs(t, name, "labels: {app: "+name+"}", spec)
}

// addAs is add with other metadata.
func (n *node) addAs(t *testing.T, name, metadata, spec string) {
	t.Helper()
	spec = strings.ReplaceAll(strings.TrimSpace(spec), "IMAGE", n.image)
	text := "apiVersion: v1\nkind: Pod\nmetadata:\n  name: " + name + "\n  namespace: default\n  " + metadata + "\n" +
		"spec:\n  " + strings.ReplaceAll(spec, "\n", "\n  ") + "\n"
	// A name that begins with a dot is no manifest; a file that is renamed is a whole one.
	write(t, n.file("pods/."+name), text)
	if err := os.Rename(n.file("pods/."+name), n.file("pods/"+name+".yaml")); err != nil {
		t.Fatal(err)
	}
}

// remove takes static pods away and returns once none of their containers runs.
func (n *node) remove(t *testing.T, names ...string) {
	t.Helper()
	for _, name := range names {
		if err := os.Remove(n.file("pods/" + name + ".yaml")); err != nil {
			t.Fatal(err)
		}
	}
	for _, name := range names {
		await(t, patience, name+" has ended", func() (struct{}, error) {
			resp, err := n.cri.ListPodSandbox(t.Context(), &cri.ListPodSandboxRequest{Filter: &cri.PodSandboxFilter{
				State:         &cri.PodSandboxStateValue{State: cri.PodSandboxState_SANDBOX_READY},
				LabelSelector: map[string]string{"io.kubernetes.pod.name": name + suffix},
			}})
			if err == nil && len(resp.GetItems()) > 0 {
				err = fmt.Errorf("sandboxes run: %v", resp.GetItems())
			}
			return struct{}{}, err
		})
	}
}

// until returns a pod once it is as wanted.
func (n *node) until(t *testing.T, name, what string, is func(p pod) bool) pod {
	t.Helper()
	return await(t, patience, name+" "+what, func() (pod, error) {
		pods, err := n.pods()
		if err != nil {
			return pod{}, err
		}
		p, known := pods[name]
		if !known {
			return pod{}, errors.New("the kubelet does not know it")
		}
		if !is(p) {
			text, _ := json.Marshal(p.Status) // always can
			return pod{}, fmt.Errorf("it is %s", text)
		}
		return p, nil
	})
}

// untilReady returns a pod once the kubelet holds it for ready.
func (n *node) untilReady(t *testing.T, name string) pod {
	t.Helper()
	return n.until(t, name, "is ready", pod.ready)
}

// untilDone returns a pod once it succeeded.
func (n *node) untilDone(t *testing.T, name string) pod {
	t.Helper()
	return n.until(t, name, "has succeeded", func(p pod) bool { return p.Status.Phase == "Succeeded" })
}

// log returns what a container wrote, by the kubelet's API.
func (n *node) log(t *testing.T, name, container, query string) string {
	t.Helper()
	text, err := n.get("/containerLogs/default/" + name + suffix + "/" + container + "?" + query)
	if err != nil {
		t.Error(err)
	}
	return text
}

// patience is for what takes seconds on a machine that has nothing else to do.
const patience = 3 * time.Minute

// await returns what look does once that is without an error.
func await[T any](t *testing.T, limit time.Duration, what string, look func() (T, error)) T {
	t.Helper()
	for end := time.Now().Add(limit); ; time.Sleep(100 * time.Millisecond) {
		got, err := look()
		if err == nil {
			return got
		}
		if time.Now().After(end) {
			t.Fatalf("not so after %v: %s: %v", limit, what, err)
		}
	}
}

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

func read(t *testing.T, path string) string {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(string(text))
}

// run runs a program to its end and returns its standard output, trimmed.
func run(t *testing.T, name string, args ...string) string {
	t.Helper()
	out, err := try(name, args...)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// try is run for a program that may fail.
func try(name string, args ...string) (string, error) {
	var stdout, stderr bytes.Buffer
	command := exec.Command(name, args...)
	command.Stdout, command.Stderr = &stdout, &stderr
	if err := command.Run(); err != nil {
		return stdout.String(), fmt.Errorf("%s %s: %w\n%s%s", filepath.Base(name), strings.Join(args, " "), err, stdout.String(), stderr.String())
	}
	return strings.TrimSpace(stdout.String()), nil
}

// repo returns the path of a file of the repository, which must exist.
func repo(t *testing.T, path string) string {
	t.Helper()
	full, err := filepath.Abs(filepath.Join("../..", path))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(full); err != nil {
		t.Fatalf("%v; run make build bin/kubelet", err)
	}
	return full
}
