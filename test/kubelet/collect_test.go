package kubelet

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// With the gate the kubelet still looks at all pods each second, but the end of a container
// makes it look at once. It says so of each in its log.
func events(t *testing.T, b bench) {
	const ends = 10
	for i := range ends {
		b.add(t, fmt.Sprintf("event-%d", i), fmt.Sprintf(`
restartPolicy: Never
terminationGracePeriodSeconds: 1
containers:
- {name: main, image: IMAGE, command: [sh, -c, "sleep 1.%d; exit 5"]}`, i))
	}
	for i := range ends {
		name := fmt.Sprintf("event-%d", i)
		p := b.until(t, name, "failed", time.Minute, func(p pod) bool { return p.Status.Phase == "Failed" })
		end := p.container("main").State.Terminated
		if end == nil || end.ExitCode != 5 {
			t.Errorf("%s ended as %+v", name, p.Status)
			continue
		}
		told := regexp.MustCompile(`requested pod relist after container termination.*` + strings.TrimPrefix(p.container("main").ContainerID, "mascri://"))
		if !told.MatchString(read(t, b.kubelet.log)) {
			t.Errorf("no event told the kubelet of the end of %s", name)
		}
	}
	metrics, err := b.get("/metrics")
	if err != nil {
		t.Fatal(err)
	}
	seen := regexp.MustCompile(`(?m)^kubelet_evented_pleg_connection_(success|error)_count \d+`).FindAllString(metrics, -1)
	b.shows(t, "events tell the kubelet of ends, with EventedPLEG", "each of %d; %s", ends, strings.Join(seen, ", "))
}

func (n *node) containers(t *testing.T, filter *cri.ContainerFilter) []*cri.Container {
	t.Helper()
	resp, err := n.cri.ListContainers(t.Context(), &cri.ListContainersRequest{Filter: filter})
	if err != nil {
		t.Fatal(err)
	}
	return resp.GetContainers()
}

// Of a container that ends again and again, the kubelet keeps one that ended.
func containerCollection(t *testing.T, b bench) {
	p := b.until(t, "backoff", "was restarted thrice", 2*time.Minute, func(p pod) bool { return p.container("main").RestartCount >= 3 })
	kept := await(t, 90*time.Second, "ended containers are collected", func() (int, error) {
		ended := b.containers(t, &cri.ContainerFilter{
			State:         &cri.ContainerStateValue{State: cri.ContainerState_CONTAINER_EXITED},
			LabelSelector: map[string]string{"io.kubernetes.pod.uid": p.Metadata.UID},
		})
		if len(ended) > 1 {
			return 0, fmt.Errorf("there are %d", len(ended))
		}
		return len(ended), nil
	})
	b.shows(t, "containers that ended are collected", "%d ran, %d is kept", p.container("main").RestartCount+1, kept)
}

// The kubelet removes images that no container is made of when their disk gets full.
func imageCollection(t *testing.T, b bench) {
	context := t.TempDir()
	write(t, context+"/big", strings.Repeat("much of it\n", 150<<20/11))
	write(t, context+"/Dockerfile", "FROM scratch\nCOPY big /big\n")
	b.docker(t, "build", "--quiet", "--tag", "big/unused:1", context)
	dir := filepath.Dir(strings.TrimPrefix(b.engine.Host(), "unix://"))
	var disk unix.Statfs_t
	if err := unix.Statfs(dir, &disk); err != nil {
		t.Fatal(err)
	}
	// 100 MiB are left, and 250 MiB without the image.
	size := (disk.Blocks-disk.Bfree)*uint64(disk.Bsize) + 100<<20
	if err := unix.Mount("", dir, "", unix.MS_REMOUNT, fmt.Sprintf("mode=0755,size=%d", size)); err != nil {
		t.Fatal(err)
	}
	b.settings["evictionHard"] = map[string]string{"memory.available": "1Mi", "imagefs.available": "200Mi", "nodefs.available": "0%"}
	b.restartKubelet(t, unix.SIGTERM)
	inUse := b.image
	left := await(t, time.Minute, "the unused image is removed", func() ([]string, error) {
		resp, err := b.images.ListImages(t.Context(), &cri.ListImagesRequest{})
		if err != nil {
			return nil, err
		}
		var tags []string
		for _, image := range resp.GetImages() {
			tags = append(tags, image.GetRepoTags()...)
		}
		if text := strings.Join(tags, " "); strings.Contains(text, "big/unused") {
			err = errors.New(text)
		}
		return tags, err
	})
	text := strings.Join(left, " ")
	if !strings.Contains(text, "localhost/mascri/sandbox") || !strings.Contains(text, inUse) {
		t.Errorf("images left: %v", left)
	}
	b.untilReady(t, "plain-1")
	b.shows(t, "unused images are collected, and never the sandbox image", "left: %v", left)
}

// What pods leave is gone soon after them.
func deletion(t *testing.T, b bench) {
	manifests, err := filepath.Glob(b.file("pods/*.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	for _, manifest := range manifests {
		if err := os.Remove(manifest); err != nil {
			t.Fatal(err)
		}
	}
	began := time.Now()
	await(t, 90*time.Second, "nothing is left of pods", func() (struct{}, error) {
		left := []string{b.docker(t, "ps", "--all", "--format", "{{.Names}}")}
		for _, pattern := range []string{
			"/sys/fs/cgroup/*/mascri-test-*/kubepods/pod*", "/sys/fs/cgroup/*/mascri-test-*/kubepods/*/pod*", "/var/log/pods/*", "/var/log/containers/*",
			"/var/lib/kubelet/pods/*", "/run/netns/*", b.file("state/attachments/*"), b.file("state/sandboxes/*"), b.file("state/logs/*"), b.file("state/updates/*"),
		} {
			found, _ := filepath.Glob(pattern) // the patterns are valid
			left = append(left, found...)
		}
		left = append(left, b.leases(t)...)
		if text := strings.TrimSpace(strings.Join(left, " ")); text != "" {
			return struct{}{}, errors.New(text)
		}
		return struct{}{}, nil
	})
	links := run(t, "ip", "-o", "link")
	if strings.Contains(links, "veth") {
		t.Errorf("links: %s", links)
	}
	b.shows(t, "deleted pods leave nothing", "%d pods: no container, cgroup, log, volume, network namespace, IP or record after %.0f s", len(manifests), time.Since(began).Seconds())
}
