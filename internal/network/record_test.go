package network

import (
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/mascri/mascri/internal/durable"
	"github.com/mascri/mascri/internal/pod"
)

func goodRecord() record {
	return record{
		Version: recordVersion,
		Attachment: pod.Attachment{
			SandboxID: sandboxID("a"), Pod: "ns/a", Phase: pod.Attached, Network: "good",
			NetnsPath: "/run/netns/" + pinName(sandboxID("a")), NetnsInode: 7, IPs: addresses("10.1.0.2"),
			Result: json.RawMessage(`{"ips":[{"address":"10.1.0.2/16"}]}`),
		},
		Config: json.RawMessage(goodList), IfName: ifName, Args: [][2]string{{"IgnoreUnknown", "1"}},
		Capabilities: map[string]json.RawMessage{"bandwidth": json.RawMessage(`{"ingressRate":9007199254740993}`)},
		BootID:       "b",
	}
}

func encode(t testing.TB, value any) []byte {
	t.Helper()
	data, err := json.Marshal(value)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func TestARecordIsReadAsItWasWritten(t *testing.T) {
	want := goodRecord()
	got, err := decodeRecord(want.SandboxID, encode(t, want))
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(encode(t, want)), string(encode(t, got))); diff != "" {
		t.Errorf("record (-want +got):\n%s", diff)
	}
}

func TestDamagedRecordsAreRefused(t *testing.T) {
	for name, tc := range map[string]struct {
		damage func(*record)
		want   string
	}{
		"later version":    {func(rec *record) { rec.Version = 2 }, "version 2, this build knows version 1: written by a newer mascri"},
		"no version":       {func(rec *record) { rec.Version = 0 }, "version 0"},
		"another sandbox":  {func(rec *record) { rec.SandboxID = sandboxID("b") }, "is that of sandbox"},
		"unknown phase":    {func(rec *record) { rec.Phase = "done" }, `phase "done"`},
		"no pin":           {func(rec *record) { rec.NetnsPath = "" }, "incomplete"},
		"another's pin":    {func(rec *record) { rec.NetnsPath = "/run/netns/" + pinName(sandboxID("b")) }, "not the sandbox's own"},
		"no inode":         {func(rec *record) { rec.NetnsInode = 0 }, "incomplete"},
		"no boot id":       {func(rec *record) { rec.BootID = "" }, "incomplete"},
		"bad interface":    {func(rec *record) { rec.IfName = "a/b" }, "interface name"},
		"no configuration": {func(rec *record) { rec.Config = json.RawMessage("{}") }, "no name"},
		"no plugins":       {func(rec *record) { rec.Config = json.RawMessage(strings.Replace(goodHeader, "parts", "good", 1)) }, "0 plugins"},
		"no network":       {func(rec *record) { rec.Network = "" }, "missing network name"},
		"another network":  {func(rec *record) { rec.Network = "other" }, `network "good"`},
		"no result":        {func(rec *record) { rec.Result = nil }, "without a result"},
		"no address":       {func(rec *record) { rec.IPs = nil }, "without a result"},
		"no host port": {func(rec *record) {
			rec.Capabilities = map[string]json.RawMessage{capPortMappings: json.RawMessage(`{}`)}
		}, "host ports"},
		"no host address": {func(rec *record) {
			rec.Capabilities = map[string]json.RawMessage{capPortMappings: json.RawMessage(`[{"hostIP":"x"}]`)}
		}, "host ports"},
		"dirty without dirt": {func(rec *record) { rec.Phase = pod.Dirty }, "incomplete"},
		"result out of line": {func(rec *record) { rec.Result = json.RawMessage(`{"ips":[null]}`) }, "null among"},
	} {
		t.Run(name, func(t *testing.T) {
			rec := goodRecord()
			tc.damage(&rec)
			if _, err := decodeRecord(sandboxID("a"), encode(t, rec)); err == nil || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("error is %v, want %q", err, tc.want)
			}
		})
	}
}

func TestDamagedRecordsAreMovedAside(t *testing.T) {
	n := configNode(t)
	n.start()
	dir := n.recordDir()
	for name, text := range map[string]string{
		"a.json":                     "{",
		sandboxID("b") + ".json":     "",
		sandboxID("c") + ".json.tmp": "half",
		"notes.txt":                  "of the operator",
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}

	if err := os.Symlink("d.json", filepath.Join(dir, "d.json")); err != nil { // can't be read
		t.Fatal(err)
	}

	n.start().start() // the second finds nothing to do

	if got := n.Attachments(); len(got) != 0 {
		t.Errorf("attachments are %v", got)
	}
	if diff := cmp.Diff([]string{"notes.txt", "quarantine"}, names(t, dir, all)); diff != "" {
		t.Errorf("records (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff([]string{sandboxID("b") + ".json", sandboxID("b") + ".reason", "a.json", "a.reason", "d.json", "d.reason"}, names(t, filepath.Join(dir, "quarantine"), all)); diff != "" {
		t.Errorf("quarantine (-want +got):\n%s", diff)
	}
	if got := strings.Count(n.log.String(), "level=ERROR"); got != 3 {
		t.Errorf("%d errors are logged: %s", got, n.log)
	}
}

// Whatever passes decodeRecord can be written again and used for CNI DEL.
func FuzzDecodeRecord(f *testing.F) {
	id := sandboxID("a")
	f.Add(encode(f, goodRecord()))
	f.Add([]byte(`{"version":1,"sandboxId":"` + id + `","phase":"attaching","netnsPath":"/x/` + pinName(id) + `","netnsInode":1,"bootId":"b","network":"good","ifName":"eth0","config":` + goodList + `}`))
	f.Add([]byte("null"))
	f.Fuzz(func(t *testing.T, data []byte) {
		rec, err := decodeRecord(id, data)
		if err != nil {
			return
		}
		list, err := rec.list()
		if err != nil || len(list.Plugins) == 0 || list.Name == "" {
			t.Errorf("list is %+v, %v", list, err)
		}
		rec.runtimeConf("")
		if _, err := decodeRecord(id, encode(t, rec)); err != nil {
			t.Errorf("written again, it is damaged: %v", err)
		}
	})
}

// Without the record its pod would be taken for one that was never completed.
func TestARecordOfANewerVersionKeepsTheDaemonFromStarting(t *testing.T) {
	n := configNode(t)
	n.start()
	rec := goodRecord()
	rec.Version = recordVersion + 1
	path := filepath.Join(n.recordDir(), recordFile(rec.SandboxID))
	if err := os.WriteFile(path, encode(t, rec), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := New(n.cfg); !errors.Is(err, durable.ErrNewer) || !strings.Contains(err.Error(), path) {
		t.Errorf("error is %v", err)
	}
	if _, err := os.Stat(path); err != nil {
		t.Errorf("the record: %v", err)
	}
}
