package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"time"
)

// A kubelet is measured with many pods: how long they take to be ready, and what it and
// its runtime use while nothing happens.
const (
	kubeletRounds = 3               // of pods made
	restLength    = 2 * time.Minute // of a measurement at rest
	restAfter     = 20 * time.Second
	kubeletLimit  = time.Hour // for all
	nodeIP        = "192.0.2.10"
)

// kubelet is one on a contestant's node. Its pods are static ones.
type kubelet struct {
	contestant
	daemon    *daemon
	settings  map[string]any
	manifests string
	http      *http.Client
}

// measureKubelets measures each of two runtimes with a kubelet of its own, and writes
// kubelet.json and kubelet.md.
func measureKubelets(ctx context.Context, o options) error {
	ctx, cancel := context.WithTimeout(ctx, kubeletLimit)
	defer cancel()
	place, err := newPlace()
	if err != nil {
		return err
	}
	defer place.clear()
	contestants, err := place.contestants(ctx, []string{reference, subject})
	if err != nil {
		return err
	}
	result := kubeletResult{Machine: describe(place.repo), Kubelet: output(filepath.Join(place.repo, "bin/kubelet"), "--version"), Pods: o.kubelet}
	var kubelets []*kubelet
	for _, c := range contestants {
		if c.pods == nil {
			continue
		}
		k, err := place.kubelet(ctx, c, o.kubelet)
		if err != nil {
			return fmt.Errorf("%s: %w", c.Name, err)
		}
		kubelets = append(kubelets, k)
		result.Contestants = append(result.Contestants, c.about)
	}
	if result.Ready, err = fills(ctx, kubelets, o.kubelet); err != nil {
		return err
	}
	for _, gates := range []map[string]bool{{}, {"PodAndContainerStatsFromCRI": true}} {
		for _, k := range kubelets {
			if err := k.restart(ctx, gates, o.kubelet); err != nil {
				return fmt.Errorf("%s: %w\n%s", k.Name, err, tail(k.daemon.log()))
			}
		}
		processes, err := atRest(ctx, kubelets, o.kubelet)
		if err != nil {
			return err
		}
		result.Rest = append(result.Rest, resting{gates, processes})
	}
	result.Machine.LoadAfter = loadAverage()
	return result.write(o.out)
}

// fills measures how long pods take to be ready, in turns. In the end all have them.
func fills(ctx context.Context, kubelets []*kubelet, count int) (taken []readiness, err error) {
	for round := range kubeletRounds {
		for i := range kubelets {
			k := kubelets[(round+i)%len(kubelets)] // each begins in turn
			took, err := k.fill(ctx, count)
			if err != nil {
				return nil, fmt.Errorf("%s: %w\n%s", k.Name, err, tail(k.daemon.log()))
			}
			taken = append(taken, readiness{k.Name, round, took.Seconds()})
			fmt.Fprintf(os.Stderr, "%s: %d pods ready after %.1f s, load %s\n", k.Name, count, took.Seconds(), loadAverage())
			if round == kubeletRounds-1 {
				continue
			}
			if err := k.empty(ctx); err != nil {
				return nil, fmt.Errorf("%s: %w", k.Name, err)
			}
		}
	}
	return taken, nil
}

// kubelet starts one on the node of a contestant.
func (p *place) kubelet(ctx context.Context, c contestant, pods int) (*kubelet, error) {
	n := c.pods.daemon.node
	group := filepath.Join(p.cgroup, c.Name) // its own, as the kubelet's cAdvisor looks at all below it
	k := &kubelet{contestant: c, manifests: n.file("manifests")}
	k.http = &http.Client{Transport: &http.Transport{DialContext: func(_ context.Context, network, address string) (conn net.Conn, err error) {
		_ = n.inside(func() error { conn, err = net.Dial(network, address); return err }) // err is the same
		return conn, err
	}}}
	k.settings = map[string]any{
		"apiVersion": "kubelet.config.k8s.io/v1beta1", "kind": "KubeletConfiguration",
		"containerRuntimeEndpoint": "unix://" + c.pods.daemon.socket,
		"staticPodPath":            k.manifests,
		"cgroupDriver":             "cgroupfs", "cgroupRoot": group, "failCgroupV1": false,
		"address": "127.0.0.1", "readOnlyPort": 10255,
		"authentication": map[string]any{"anonymous": map[string]any{"enabled": true}, "webhook": map[string]any{"enabled": false}},
		"authorization":  map[string]any{"mode": "AlwaysAllow"},
		"registerNode":   false, "makeIPTablesUtilChains": false, "failSwapOn": false, "oomScoreAdj": 0,
		"volumePluginDir": n.file("volume-plugins"), "enableControllerAttachDetach": false,
		"maxPods": max(110, pods), "imageGCHighThresholdPercent": 100,
		"evictionHard": map[string]string{"memory.available": "1Mi", "nodefs.available": "0%", "imagefs.available": "0%"},
	}
	hierarchies, _ := filepath.Glob("/sys/fs/cgroup/*/cgroup.procs") // the pattern is valid
	if len(hierarchies) == 0 {
		hierarchies = []string{"/sys/fs/cgroup/cgroup.procs"}
	}
	for _, file := range hierarchies {
		if err := os.MkdirAll(filepath.Join(filepath.Dir(file), group), 0o755); err != nil {
			return nil, err
		}
	}
	if err := errors.Join(os.Mkdir(k.manifests, 0o755), n.run("ip", "addr", "add", nodeIP+"/32", "dev", "lo"), n.copy(filepath.Join(p.repo, "bin/kubelet"), "programs/kubelet")); err != nil {
		return nil, err
	}
	if c.Name == reference {
		// The kubelet's cAdvisor looks for containerd there.
		if err := n.run("ln", "-s", c.pods.daemon.socket, "/run/containerd/containerd.sock"); err != nil {
			return nil, err
		}
	}
	if err := k.configure(nil); err != nil {
		return nil, err
	}
	root := n.file("kubelet")
	var err error
	k.daemon, err = n.daemon(ctx, filepath.Join(root, "pod-resources/kubelet.sock"), nil, n.file("programs/kubelet"),
		"--config", n.file("kubelet.json"), "--root-dir", root, "--hostname-override", "node", "--node-ip", nodeIP)
	return k, err
}

func (k *kubelet) configure(gates map[string]bool) error {
	k.settings["featureGates"] = gates
	text, err := json.Marshal(k.settings)
	if err != nil {
		return err
	}
	return os.WriteFile(k.pods.daemon.node.file("kubelet.json"), text, 0o600)
}

// restart starts the kubelet with other gates, and returns once it holds its pods for ready.
func (k *kubelet) restart(ctx context.Context, gates map[string]bool, count int) error {
	if err := errors.Join(k.daemon.kill(), k.configure(gates), k.daemon.start()); err != nil {
		return err
	}
	return k.await(ctx, count)
}

// fill makes pods and returns how long it took until all were ready.
func (k *kubelet) fill(ctx context.Context, count int) (time.Duration, error) {
	for i := range count {
		name := fmt.Sprintf("pod-%d", i)
		text, err := json.Marshal(map[string]any{
			"apiVersion": "v1", "kind": "Pod", "metadata": map[string]any{"name": name, "namespace": "bench"},
			"spec": map[string]any{"containers": []any{map[string]any{
				"name": "main", "image": shellImage, "imagePullPolicy": "Never", "command": []string{"/bin/sh", "-c", waits},
			}}},
		})
		if err != nil {
			return 0, err
		}
		// The kubelet does not read files whose names begin with a dot.
		if err := os.WriteFile(filepath.Join(k.manifests, "."+name), text, 0o600); err != nil {
			return 0, err
		}
	}
	began := time.Now()
	for i := range count {
		name := filepath.Join(k.manifests, fmt.Sprintf("pod-%d", i))
		if err := os.Rename(filepath.Join(k.manifests, "."+filepath.Base(name)), name+".json"); err != nil {
			return 0, err
		}
	}
	err := k.await(ctx, count)
	return time.Since(began), err
}

// await returns once so many pods are ready.
func (k *kubelet) await(ctx context.Context, count int) error {
	for {
		ready, err := k.ready()
		if err == nil && ready == count {
			return nil
		}
		if sleep(ctx, 250*time.Millisecond) != nil {
			return fmt.Errorf("%d of %d pods are ready: %w", ready, count, errors.Join(ctx.Err(), err))
		}
	}
}

// ready is how many pods the kubelet holds for ready.
func (k *kubelet) ready() (int, error) {
	resp, err := k.http.Get("http://127.0.0.1:10255/pods")
	if err != nil {
		return 0, err
	}
	defer resp.Body.Close()
	var list struct {
		Items []struct {
			Status struct {
				Conditions []struct{ Type, Status string }
			}
		}
	}
	if err := json.NewDecoder(resp.Body).Decode(&list); err != nil {
		return 0, err
	}
	ready := 0
	for _, pod := range list.Items {
		for _, condition := range pod.Status.Conditions {
			if condition.Type == "Ready" && condition.Status == "True" {
				ready++
			}
		}
	}
	return ready, nil
}

// empty takes all pods away, and returns once the runtime has none.
func (k *kubelet) empty(ctx context.Context) error {
	manifests, err := filepath.Glob(filepath.Join(k.manifests, "*.json"))
	if err != nil {
		return err
	}
	for _, manifest := range manifests {
		if err := os.Remove(manifest); err != nil {
			return err
		}
	}
	for {
		left, _, err := k.pods.listPods(ctx)
		if err != nil || left == 0 {
			return err
		}
		if err := sleep(ctx, time.Second); err != nil {
			return fmt.Errorf("%d pods are left: %w", left, err)
		}
	}
}

// atRest measures all kubelets at the same time.
func atRest(ctx context.Context, kubelets []*kubelet, count int) ([]process, error) {
	fmt.Fprintf(os.Stderr, "at rest for %v, load %s\n", restLength, loadAverage())
	if err := sleep(ctx, restAfter); err != nil {
		return nil, err
	}
	first := make([]use, len(kubelets))
	began := make([]time.Time, len(kubelets))
	var err error
	for i, k := range kubelets {
		if first[i], err = k.pods.daemon.node.use(); err != nil {
			return nil, err
		}
		began[i] = time.Now()
	}
	if err := sleep(ctx, restLength); err != nil {
		return nil, err
	}
	var processes []process
	for i, k := range kubelets {
		last, err := k.pods.daemon.node.use()
		if err != nil {
			return nil, err
		}
		processes = append(processes, between(first[i], last, time.Since(began[i]), k.Name, count)...)
	}
	return processes, nil
}
