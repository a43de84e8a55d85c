package kubelet

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"
)

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
	p := b.until(t, "backoff", "was restarted thrice", func(p pod) bool { return p.container("main").RestartCount >= 3 })
	kept := await(t, patience, "ended containers are collected", func() (int, error) {
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
	left := await(t, patience, "the unused image is removed", func() ([]string, error) {
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
	await(t, patience, "nothing is left of pods", func() (struct{}, error) {
		left := []string{b.docker(t, "ps", "--all", "--format", "{{.Names}}")}
		pods := filepath.Join("/sys/fs/cgroup/*", os.Getenv("MASCRI_TEST_CGROUP"), "kubepods")
		for _, pattern := range []string{
			pods + "/pod*", pods + "/*/pod*", "/var/log/pods/*", "/var/log/containers/*",
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
