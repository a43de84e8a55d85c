package cri_test

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/proto"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/mascri/mascri/internal/engine/enginetest"
)

// updates returns the ids of which changes are noted, a line each.
func (d *daemon) updates(t *testing.T) string {
	t.Helper()
	entries, err := os.ReadDir(filepath.Join(d.dir, "updates"))
	if err != nil && !os.IsNotExist(err) {
		t.Fatal(err)
	}
	var names []string
	for _, entry := range entries {
		names = append(names, entry.Name()+"\n")
	}
	slices.Sort(names)
	return strings.Join(names, "")
}

// wide is an update of what the engine knows and of what it does not.
func wide() *runtimeapi.LinuxContainerResources {
	return &runtimeapi.LinuxContainerResources{
		CpuShares: 700, OomScoreAdj: 33, HugepageLimits: []*runtimeapi.HugepageLimit{{PageSize: "2MB", Limit: 1 << 21}}, Unified: map[string]string{"memory.high": "1000"},
	}
}

func (d *daemon) wantResources(t *testing.T, when, id string, want *runtimeapi.LinuxContainerResources) {
	t.Helper()
	if got := d.containerStatus(t, id).GetResources().GetLinux(); !proto.Equal(got, want) {
		t.Errorf("%s: resources %v, want %v", when, got, want)
	}
}

func TestUpdatesAddUp(t *testing.T) {
	d := newDaemon(t)
	sandbox := d.run(t, podConfig("web"))
	config := containerConfig("app")
	config.Linux.Resources = &runtimeapi.LinuxContainerResources{CpuShares: 100, CpuQuota: 5000, OomScoreAdj: 11, HugepageLimits: []*runtimeapi.HugepageLimit{{PageSize: "1GB"}}}
	id := d.mustCreate(t, sandbox, config)
	want := &runtimeapi.LinuxContainerResources{
		CpuShares: 700, CpuQuota: 5000, OomScoreAdj: 33, Unified: map[string]string{"memory.high": "1000"},
		HugepageLimits: []*runtimeapi.HugepageLimit{{PageSize: "2MB", Limit: 1 << 21}, {PageSize: "1GB"}},
	}
	if err := d.update(t, id, wide()); err != nil {
		t.Fatal(err)
	}
	d.wantResources(t, "updated before the start", id, want)
	if got := d.limits.of(id); got != "" {
		t.Errorf("limits of what does not run: %q", got)
	}
	if err := d.start(t, id); err != nil {
		t.Fatal(err)
	}
	if got := d.limits.of(id); got != "1GB=0 2MB=2097152 memory.high=1000 oom_score_adj=33" {
		t.Errorf("limits after the start: %q", got)
	}
	if err := d.update(t, id, &runtimeapi.LinuxContainerResources{OomScoreAdj: 44, Unified: map[string]string{"memory.low": "5"}}); err != nil {
		t.Fatal(err)
	}
	want.OomScoreAdj, want.Unified["memory.low"] = 44, "5"
	d.wantResources(t, "updated while it runs", id, want)
	if got := d.limits.of(id); got != "1GB=0 2MB=2097152 memory.high=1000 memory.low=5 oom_score_adj=44" {
		t.Errorf("limits after the update: %q", got)
	}

	d.end()
	d = startDaemon(t, d.life)
	d.wantResources(t, "after a restart", id, want)
	if err := d.stopContainer(t, id, 1); err != nil {
		t.Fatal(err)
	}
	wantCode(t, d.update(t, id, wide()), codes.FailedPrecondition, "ended")
	if err := d.remove(t, sandbox); err != nil {
		t.Fatal(err)
	}
	if left := d.updates(t); left != "" {
		t.Errorf("noted of nobody: %s", left)
	}
	d.wantClean(t)
}

func TestDamagedUpdates(t *testing.T) {
	d := newDaemon(t)
	sandbox := d.run(t, podConfig("web"))
	whole, damaged := d.mustStart(t, sandbox, containerConfig("whole")), d.mustStart(t, sandbox, containerConfig("damaged"))
	for _, id := range []string{whole, damaged} {
		if err := d.update(t, id, wide()); err != nil {
			t.Fatal(err)
		}
	}
	d.end()
	dir := filepath.Join(d.dir, "updates")
	gone, later := strings.Repeat("e", 64)+".json", "later.json"
	for name, text := range map[string]string{damaged + ".json": `{"resources":`, gone: "{}", later: "?"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	d = startDaemon(t, d.life)
	d.wantContainers(t, "damaged RUNNING, whole RUNNING")
	if got := d.containerStatus(t, whole).GetResources().GetLinux().GetOomScoreAdj(); got != 33 {
		t.Errorf("the whole one's oom_score_adj is %d", got)
	}
	if got := d.updates(t); got != whole+".json\n"+damaged+".json\n"+later+"\n" {
		t.Errorf("files left:\n%s", got)
	}
	if err := d.update(t, damaged, wide()); err != nil {
		t.Errorf("update of the damaged one: %v", err)
	}
	d.end()
	d = startDaemon(t, d.life)
	if got := d.containerStatus(t, damaged).GetResources().GetLinux().GetOomScoreAdj(); got != 33 {
		t.Errorf("after another update its oom_score_adj is %d", got)
	}
}

func TestSandboxUpdatesSurviveARestart(t *testing.T) {
	d := newDaemon(t)
	sandbox := d.run(t, podConfig("web"))
	_, err := d.UpdatePodSandboxResources(t.Context(), &runtimeapi.UpdatePodSandboxResourcesRequest{
		PodSandboxId: sandbox, Resources: &runtimeapi.LinuxContainerResources{CpuShares: 12345}, Overhead: &runtimeapi.LinuxContainerResources{CpuShares: 54321},
	})
	if err != nil {
		t.Fatal(err)
	}
	d.end()
	d = startDaemon(t, d.life)
	resp, err := d.PodSandboxStatus(t.Context(), &runtimeapi.PodSandboxStatusRequest{PodSandboxId: sandbox, Verbose: true})
	if err != nil || !strings.Contains(resp.GetInfo()["info"], "12345") || !strings.Contains(resp.GetInfo()["info"], "54321") {
		t.Errorf("%v, %v", resp.GetInfo(), err)
	}
}

// An update that waits for a sandbox's removal leaves nothing behind.
func TestUpdateOfASandboxBeingRemoved(t *testing.T) {
	d := newDaemon(t)
	sandbox := d.run(t, podConfig("web"))
	release := d.engine.Hold("Remove")
	removed, updated := make(chan error, 1), make(chan error, 1)
	go func() { removed <- d.remove(t, sandbox) }()
	eventually(t, "it is being removed", func() bool { return calls(d, "Remove") > 0 })
	go func() {
		_, err := d.UpdatePodSandboxResources(t.Context(), &runtimeapi.UpdatePodSandboxResourcesRequest{PodSandboxId: sandbox})
		updated <- err
	}()
	time.Sleep(100 * time.Millisecond) // it waits for the sandbox; were it late, it would be refused as well
	release()
	if err := <-removed; err != nil {
		t.Error(err)
	}
	wantCode(t, <-updated, codes.NotFound, sandbox)
	if got := d.updates(t); got != "" {
		t.Errorf("files left:\n%s", got)
	}
}

func TestRefusedUpdatesChangeNothing(t *testing.T) {
	d := newDaemon(t)
	id := d.mustStart(t, d.run(t, podConfig("web")), containerConfig("app"))
	for says, asked := range map[string]*runtimeapi.LinuxContainerResources{
		"linux: missing":    nil,
		"cpu_shares: -1":    {CpuShares: -1, OomScoreAdj: 5},
		"no.such":           {CpuShares: 5, Unified: map[string]string{"no.such": "1"}},
		"oom_score_adj":     {CpuShares: 5, OomScoreAdj: 1001},
		"memory_swap_limit": {OomScoreAdj: 5, MemorySwapLimitInBytes: 1},
	} {
		err := d.update(t, id, asked)
		if err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("%v: %v, want an error that says %q", asked, err, says)
		}
		d.wantResources(t, says, id, &runtimeapi.LinuxContainerResources{})
		if got := d.limits.of(id) + d.updates(t); got != "" {
			t.Errorf("%s: changed all the same: %s", says, got)
		}
	}
	_, err := d.UpdateContainerResources(t.Context(), &runtimeapi.UpdateContainerResourcesRequest{ContainerId: id, Linux: wide(), Annotations: map[string]string{"a": "b"}})
	wantCode(t, err, codes.Unimplemented, "annotations")
	_, err = d.UpdateContainerResources(t.Context(), &runtimeapi.UpdateContainerResourcesRequest{ContainerId: id, Windows: &runtimeapi.WindowsContainerResources{}})
	wantCode(t, err, invalid, "windows")
}

// Where an update fails half way, status tells what is in force, and the same update can
// be asked for again.
func TestUpdateFailsAtEachStep(t *testing.T) {
	for name, tt := range map[string]struct {
		fault  *enginetest.Fault
		limits error
		shares int64 // in force afterwards
	}{
		"the engine":                {&enginetest.Fault{Method: "UpdateContainer"}, nil, 0},
		"the engine, answer lost":   {&enginetest.Fault{Method: "UpdateContainer", Done: true}, nil, 700},
		"the kernel":                {nil, errors.New("boom"), 700},
		"the look at the end of it": {&enginetest.Fault{Method: "Inspect"}, nil, 700},
	} {
		t.Run(name, func(t *testing.T) {
			d := newDaemon(t)
			id := d.mustStart(t, d.run(t, podConfig("web")), containerConfig("app"))
			if tt.fault != nil {
				d.engine.Fail(*tt.fault)
			}
			d.limits.failWith(tt.limits)
			if err := d.update(t, id, wide()); err == nil {
				t.Fatal("no error")
			}
			d.engine.Heal()
			d.limits.failWith(nil)
			eventually(t, "status tells", func() bool { return d.containerStatus(t, id).GetResources().GetLinux().GetCpuShares() == tt.shares })
			if err := d.update(t, id, wide()); err != nil {
				t.Fatal(err)
			}
			d.wantResources(t, "asked again", id, wide())
		})
	}
}
