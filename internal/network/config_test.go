package network

import (
	"context"
	"errors"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/containerd/errdefs"
	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"
)

// configNode is a node for tests that run no plugin.
func configNode(t *testing.T) *node {
	t.Helper()
	n := &node{t: t, forward: &fakeForwarder{}, log: &syncWriter{}}
	dir := t.TempDir()
	bin := filepath.Join(dir, "bin")
	for _, plugin := range []string{"bridge", "host-local", "portmap"} {
		if err := errors.Join(os.MkdirAll(bin, 0o755), os.WriteFile(filepath.Join(bin, plugin), nil, 0o755)); err != nil {
			t.Fatal(err)
		}
	}
	n.cfg = Config{
		ConfigDir: filepath.Join(dir, "net.d"), BinDirs: []string{filepath.Join(dir, "none"), bin},
		StateDir: filepath.Join(dir, "state"), NetnsDir: filepath.Join(dir, "netns"),
		Forward: n.forward, Logger: testLogger(n.log),
	}
	return n
}

const (
	goodList   = `{"cniVersion": "1.0.0", "name": "good", "plugins": [{"type": "bridge", "ipam": {"type": "host-local", "subnet": "10.1.0.0/16"}}]}`
	goodSingle = `{"cniVersion": "1.0.0", "name": "single", "type": "bridge", "ipam": {"type": "host-local", "ranges": [[{"subnet": "10.2.0.0/16"}], [{"subnet": "fd00::/64"}]]}}`
	goodHeader = `{"cniVersion": "1.0.0", "name": "parts"}`
)

func TestTheFirstValidFileWins(t *testing.T) {
	for name, tc := range map[string]struct {
		files   map[string]string
		network string
		file    string
		subnets []string
		passed  []string // file: reason
	}{
		"list":          {files: map[string]string{"10-a.conflist": goodList}, network: "good", file: "10-a.conflist", subnets: []string{"10.1.0.0/16"}},
		"single conf":   {files: map[string]string{"10-a.conf": goodSingle}, network: "single", file: "10-a.conf", subnets: []string{"10.2.0.0/16", "fd00::/64"}},
		"single json":   {files: map[string]string{"10-a.json": goodSingle}, network: "single", file: "10-a.json", subnets: []string{"10.2.0.0/16", "fd00::/64"}},
		"parts":         {files: map[string]string{"10-a.conflist": goodHeader, "parts/1.conf": `{"type": "bridge"}`, "parts/0.conf": `{"type": "portmap"}`}, network: "parts", file: "10-a.conflist"},
		"other suffix":  {files: map[string]string{"00-a.bak": "{", "01-b.conflist~": "{", "10-c.conflist": goodList}, network: "good", file: "10-c.conflist", subnets: []string{"10.1.0.0/16"}},
		"lexical order": {files: map[string]string{"2.conflist": goodList, "10.conf": goodSingle}, network: "single", file: "10.conf", subnets: []string{"10.2.0.0/16", "fd00::/64"}, passed: []string{"2.conflist: 10.conf comes first in lexical order"}},
		"invalid ones are passed": {
			files:   map[string]string{"1.conflist": "{\n  \"name\": }", "2.conflist": goodList, "3.conf": ""},
			network: "good", file: "2.conflist", subnets: []string{"10.1.0.0/16"},
			passed: []string{"1.conflist: DIR/1.conflist:2:11: invalid character '}' looking for beginning of value", "3.conf: DIR/3.conf:1:1: unexpected end of JSON input"},
		},
		"newest known version": {files: map[string]string{"1.conflist": strings.Replace(goodList, `"cniVersion": "1.0.0"`, `"cniVersions": ["0.4.0", "1.1.0", "9.0.0"]`, 1)}, network: "good", file: "1.conflist", subnets: []string{"10.1.0.0/16"}},
	} {
		t.Run(name, func(t *testing.T) {
			n := configNode(t)
			for file, text := range tc.files {
				n.write(file, text)
			}
			n.start()

			status := n.Status()

			if !status.Ready || status.Network != tc.network || status.ConfigFile != filepath.Join(n.cfg.ConfigDir, tc.file) || status.DefaultNetwork {
				t.Errorf("status is %+v", status)
			}
			if diff := cmp.Diff(tc.subnets, status.Subnets); diff != "" {
				t.Errorf("subnets (-want +got):\n%s", diff)
			}
			var passed []string
			for _, p := range status.Passed {
				passed = append(passed, filepath.Base(p.File)+": "+strings.ReplaceAll(p.Reason, n.cfg.ConfigDir, "DIR"))
			}
			if diff := cmp.Diff(tc.passed, passed); diff != "" {
				t.Errorf("passed (-want +got):\n%s", diff)
			}
		})
	}
}

func TestInvalidFilesAreToldByPosition(t *testing.T) {
	for name, tc := range map[string]struct {
		file, text string
		want       string // behind the directory
	}{
		"empty":              {"a.conflist", "", "a.conflist:1:1: unexpected end of JSON input"},
		"cut":                {"a.conflist", "{\n\"name\": \"x\",\n", "a.conflist:2:13: unexpected end of JSON input"},
		"bad byte":           {"a.conflist", "{\n\t\"name\": \"x\",\n\t\"plugins\": [}\n}", `a.conflist:3:14: invalid character '}'`},
		"trailing":           {"a.conflist", goodList + "\nx", `a.conflist:2:1: invalid character 'x'`},
		"not an object":      {"a.conflist", "\n [1]", "a.conflist:2:2: not a JSON object"},
		"null":               {"a.conflist", "null", "a.conflist:1:1: not a JSON object"},
		"no name":            {"a.conflist", ` {"cniVersion": "1.0.0", "plugins": []}`, `a.conflist:1:2: "name" is missing`},
		"name is no string":  {"a.conflist", `{"name": 5}`, `a.conflist:1:10: "name" is not a string`},
		"name is null":       {"a.conflist", `{"name": null}`, `a.conflist:1:10: "name" is not a string`},
		"bad name":           {"a.conflist", `{"name": "../x"}`, `a.conflist:1:10: invalid characters`},
		"no version":         {"a.conflist", `{"name": "x", "plugins": []}`, `a.conflist:1:1: "cniVersion" is missing`},
		"unknown version":    {"a.conflist", "{\"name\": \"x\",\n\"cniVersion\": \"9.0.0\"}", `a.conflist:2:15: cniVersion "9.0.0" is not one of 0.1.0,`},
		"no known version":   {"a.conflist", "{\"name\": \"x\",\n\"cniVersions\": [\"9.0.0\"], \"plugins\": [{\"type\": \"bridge\"}]}", `a.conflist:2:16: none of these versions is known`},
		"bad version":        {"a.conflist", `{"name": "x", "cniVersions": ["x"], "plugins": [{"type": "bridge"}]}`, `a.conflist: error parsing configuration list: invalid cniVersions entry x`},
		"no plugins":         {"a.conflist", `{"name": "x", "cniVersion": "1.0.0"}`, `a.conflist: no plugins, neither in it nor as *.conf in a directory "x" beside it`},
		"empty plugins":      {"a.conflist", `{"name": "x", "cniVersion": "1.0.0", "plugins": []}`, `a.conflist:1:49: "plugins" is empty`},
		"plugins no list":    {"a.conflist", `{"name": "x", "cniVersion": "1.0.0", "plugins": {}}`, `a.conflist:1:49: not a JSON array`},
		"plugin no object":   {"a.conflist", "{\"name\": \"x\", \"cniVersion\": \"1.0.0\", \"plugins\": [\n  {\"type\": \"bridge\"},\n  5]}", `a.conflist:3:3: not a JSON object`},
		"plugin is null":     {"a.conflist", `{"name": "x", "cniVersion": "1.0.0", "plugins": [null]}`, `a.conflist:1:50: not a JSON object`},
		"plugin no type":     {"a.conflist", "{\"name\": \"x\", \"cniVersion\": \"1.0.0\", \"plugins\": [\n  {}]}", `a.conflist:2:3: "type" is missing`},
		"type is a path":     {"a.conflist", "{\"name\": \"x\", \"cniVersion\": \"1.0.0\", \"plugins\": [\n  {\"type\": \"../sh\"}]}", `a.conflist:2:12: type "../sh" is not the name of a plugin`},
		"bad capabilities":   {"a.conflist", "{\"name\": \"x\", \"cniVersion\": \"1.0.0\", \"plugins\": [\n  {\"type\": \"bridge\",\n \"capabilities\": {\"dns\": 1}}]}", `a.conflist:3:26: error parsing configuration: json: cannot unmarshal number`},
		"bad ipam":           {"a.conflist", "{\"name\": \"x\", \"cniVersion\": \"1.0.0\", \"plugins\": [\n  {\"type\": \"bridge\", \"ipam\": 5}]}", `a.conflist:2:30: not a JSON object`},
		"list as conf":       {"a.conf", goodList, `a.conf:1:52: has "plugins", so it is a list: rename it to .conflist`},
		"list as json":       {"a.json", goodList, `a.json:1:52: has "plugins", so it is a list: rename it to .conflist`},
		"conf as list":       {"a.conflist", goodSingle, `a.conflist:1:51: is a single plugin: put it into a list "plugins", or rename it to .conf`},
		"conf without type":  {"a.conf", goodHeader, `a.conf:1:1: "type" is missing`},
		"conf with versions": {"a.conf", `{"name": "x", "type": "bridge", "cniVersions": ["1.0.0"]}`, `a.conf:1:1: "cniVersion" is missing`},
		"bad bool":           {"a.conflist", `{"name": "x", "cniVersion": "1.0.0", "disableCheck": 5, "plugins": [{"type": "bridge"}]}`, `a.conflist: error parsing configuration list: invalid type float64 for disableCheck`},
	} {
		t.Run(name, func(t *testing.T) {
			n := configNode(t)
			n.write(tc.file, tc.text)
			n.start()

			status := n.Status()

			if status.Ready || status.Reason != "NoNetworkConfig" || !strings.Contains(status.Message, n.cfg.ConfigDir) {
				t.Errorf("status is %+v", status)
			}
			if len(status.Passed) != 1 || !status.Passed[0].Invalid || !strings.HasPrefix(status.Passed[0].Reason, n.cfg.ConfigDir+"/"+tc.want) {
				t.Errorf("passed is %+v, want %s", status.Passed, tc.want)
			}
		})
	}
}

func TestAPipeIsNotRead(t *testing.T) {
	n := configNode(t)
	n.write("20-a.conflist", goodList)
	if err := unix.Mkfifo(filepath.Join(n.cfg.ConfigDir, "10-pipe.conflist"), 0o600); err != nil {
		t.Fatal(err)
	}
	n.start()
	status := n.Status()
	if !status.Ready || len(status.Passed) != 1 || !strings.HasSuffix(status.Passed[0].Reason, "10-pipe.conflist: not a regular file") {
		t.Errorf("status is %+v", status)
	}
}

func TestAnInvalidPartIsToldByPosition(t *testing.T) {
	n := configNode(t)
	n.write("a.conflist", goodHeader)
	n.write("parts/1.conf", "{\"type\": \"bridge\",\n}")
	n.start()
	if got := n.Status().Message; !strings.Contains(got, n.cfg.ConfigDir+"/parts/1.conf:2:1: ") {
		t.Errorf("message is %q", got)
	}
}

// The recorded configuration must not depend on files beside it.
func TestPartsAreInlined(t *testing.T) {
	n := configNode(t)
	n.write("a.conflist", goodHeader)
	n.write("parts/1.conf", `{"type": "bridge", "mtu": 1400}`)
	n.start()
	want := `{"cniVersion":"1.0.0","name":"parts","loadOnlyInlinedPlugins":true,"plugins":[{"type":"bridge","mtu":1400}]}`
	if got := string(n.snap.Load().chosen.list.Bytes); got != want {
		t.Errorf("inlined is %s, want %s", got, want)
	}
}

func TestADamagedFileKeepsItsLastValidContent(t *testing.T) {
	n := configNode(t)
	n.write("10-a.conflist", goodList)
	n.write("20-b.conf", goodSingle)
	n.start()
	n.write("10-a.conflist", goodList[:50])

	n.look(t.Context())

	status := n.Status()
	if !status.Ready || status.Network != "good" || !strings.Contains(status.Message, "10-a.conflist:1:") {
		t.Errorf("status is %+v", status)
	}
	n.write("05-c.conf", strings.Replace(goodSingle, "single", "earlier", 1))
	if n.look(t.Context()); n.Status().Network != "earlier" {
		t.Errorf("an earlier file does not win: %+v", n.Status())
	}
	if err := os.Remove(filepath.Join(n.cfg.ConfigDir, "05-c.conf")); err != nil {
		t.Fatal(err)
	}
	if n.look(t.Context()); n.Status().Network != "single" {
		t.Errorf("what was damaged before it was chosen is used: %+v", n.Status())
	}
}

func TestStatusNamesMissingPlugins(t *testing.T) {
	n := configNode(t)
	n.write("10-a.conflist", strings.Replace(goodList, "host-local", "absent", 1))
	n.start()
	status := n.Status()
	if status.Ready || status.Reason != "PluginMissing" || !strings.Contains(status.Message, strings.Join(n.cfg.BinDirs, ", ")) {
		t.Errorf("status is %+v", status)
	}
	if len(status.Plugins) != 2 || status.Plugins[0].Path == "" || !status.Plugins[1].IPAM || status.Plugins[1].Err == "" {
		t.Errorf("plugins are %+v", status.Plugins)
	}
	path := filepath.Join(n.cfg.BinDirs[1], "absent")
	if err := os.WriteFile(path, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	if n.look(t.Context()); !strings.Contains(n.Status().Message, path+" is not executable") {
		t.Errorf("status is %+v", n.Status())
	}
}

// A file that was written just before a pod is asked for counts for that pod.
func TestAttachSeesANewFile(t *testing.T) {
	n := configNode(t)
	n.start()
	if snap := n.current(t.Context()); snap.chosen != nil {
		t.Fatalf("chosen is %v", snap.chosen)
	}
	for i, text := range []string{goodList, strings.Replace(goodList, "good", "gold", 1), goodHeader} {
		n.write("10-a.conflist", text)
		want := []string{"good", "gold", "gold"}[i] // the last has no plugins yet
		if got := n.current(t.Context()).chosen.list.Name; got != want {
			t.Errorf("chosen is %s, want %s", got, want)
		}
	}
	n.write("parts/1.conf", `{"type": "bridge"}`)
	if got := n.current(t.Context()).chosen.list.Name; got != "parts" {
		t.Errorf("chosen is %s, want parts", got)
	}
}

type fakeDefault struct {
	text             string
	err              error
	ensured, removed int
}

func (d *fakeDefault) Conflist(context.Context) ([]byte, error) { return []byte(d.text), d.err }
func (d *fakeDefault) Ensure(context.Context) error             { d.ensured++; return d.err }
func (d *fakeDefault) Remove(context.Context) error             { d.removed++; return d.err }

func TestTheDefaultNetworkIsForWantOfAnother(t *testing.T) {
	n := configNode(t)
	n.cfg.Default = &fakeDefault{text: strings.Replace(goodList, "good", "mascri", 1)}
	n.start()
	if status := n.Status(); !status.Ready || !status.DefaultNetwork || status.Network != "mascri" || status.ConfigFile != "" {
		t.Errorf("without a directory: %+v", status)
	}
	n.write("10-a.conflist", "{")
	n.look(t.Context())
	if status := n.Status(); !status.DefaultNetwork || !strings.Contains(status.Message, "10-a.conflist:1:1") {
		t.Errorf("with an invalid file: %+v", status)
	}
	n.write("20-b.conflist", goodList)
	n.look(t.Context())
	if status := n.Status(); status.DefaultNetwork || status.Network != "good" {
		t.Errorf("with a valid file: %+v", status)
	}
	if err := os.RemoveAll(n.cfg.ConfigDir); err != nil {
		t.Fatal(err)
	}
	n.look(t.Context())
	if status := n.Status(); !status.DefaultNetwork {
		t.Errorf("after its removal: %+v", status)
	}
}

func TestAPodCIDRTurnsTheDefaultNetworkOff(t *testing.T) {
	n := configNode(t)
	n.cfg.Default = &fakeDefault{text: goodList}
	n.start()
	cidrs := []netip.Prefix{netip.MustParsePrefix("10.9.0.0/24")}

	if err := n.SetPodCIDRs(nil); err != nil || !n.Status().Ready {
		t.Errorf("no pod CIDR: %v, %+v", err, n.Status())
	}
	if err := n.SetPodCIDRs(cidrs); err != nil {
		t.Fatal(err)
	}

	for range 2 { // and after a restart
		status := n.Status()
		if status.Ready || !strings.Contains(status.Message, "pod CIDR") || !cmp.Equal(status.PodCIDRs, []string{"10.9.0.0/24"}) {
			t.Errorf("status is %+v", status)
		}
		n.start()
	}
	req := n.request("a")
	if _, err := n.Attach(t.Context(), req); !errdefs.IsFailedPrecondition(err) || !strings.Contains(err.Error(), "pod CIDR") {
		t.Errorf("Attach gives %v", err)
	}
}

func TestADefaultNetworkThatFailsIsTold(t *testing.T) {
	n := configNode(t)
	n.cfg.Default = &fakeDefault{err: errors.New("no free subnet")}
	n.start()
	if status := n.Status(); status.Ready || !strings.Contains(status.Message, "no free subnet") {
		t.Errorf("status is %+v", status)
	}
}

func TestADamagedPodCIDRFileStopsTheStart(t *testing.T) {
	n := configNode(t)
	n.start()
	path := filepath.Join(n.cfg.StateDir, runtimeFile)
	if err := os.WriteFile(path, []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := New(n.cfg); err == nil || !strings.Contains(err.Error(), path) {
		t.Errorf("error is %v", err)
	}
}

func FuzzParseBytes(f *testing.F) {
	for _, text := range []string{goodList, goodSingle, goodHeader, "{", "null", `{"plugins":[{}]}`, `{"name":"a","cniVersion":"1.0.0","plugins":[{"type":"a","ipam":{"type":1}}]}`} {
		f.Add(".conflist", []byte(text))
		f.Add(".conf", []byte(text))
	}
	f.Fuzz(func(t *testing.T, ext string, data []byte) {
		file := "/net.d/a" + ext
		list, err := parseBytes(file, data)
		if err != nil {
			if !strings.HasPrefix(err.Error(), file) {
				t.Errorf("error does not begin with the file: %v", err)
			}
			return
		}
		if len(list.Plugins) == 0 {
			return
		}
		net, err := finish(file, list)
		if err != nil {
			t.Fatalf("valid, but can't be recorded: %v", err)
		}
		again, err := parseBytes("again.conflist", net.list.Bytes)
		if err != nil {
			t.Fatalf("recorded form is invalid: %v", err)
		}
		if again.Name != list.Name || again.CNIVersion != list.CNIVersion || len(again.Plugins) != len(list.Plugins) {
			t.Errorf("%+v became %+v", list, again)
		}
	})
}

// Nobody knows that a directory holds nothing when it can't be read: pods must not get
// onto another network for that.
func TestADirectoryThatCannotBeRead(t *testing.T) {
	n := configNode(t)
	n.cfg.Default = &fakeDefault{text: strings.Replace(goodList, "good", "mascri", 1)}
	n.write("10-a.conflist", goodList)
	n.start()
	dir := n.cfg.ConfigDir
	if err := errors.Join(os.Rename(dir, dir+".away"), os.WriteFile(dir, nil, 0o600)); err != nil {
		t.Fatal(err)
	}
	n.look(t.Context())
	if status := n.Status(); !status.Ready || status.Network != "good" || !strings.Contains(status.Message, "as last read, as network configurations can't be read now: ") {
		t.Errorf("status is %+v", status)
	}
	n.start()
	if status := n.Status(); status.Ready || !strings.Contains(status.Message, "read network configurations: ") || !strings.Contains(status.Message, dir) {
		t.Errorf("after a restart: status is %+v", status)
	}
	if err := errors.Join(os.Remove(dir), os.Rename(dir+".away", dir)); err != nil {
		t.Fatal(err)
	}
	n.look(t.Context())
	if status := n.Status(); !status.Ready || status.Network != "good" || strings.Contains(status.Message, "read now") {
		t.Errorf("after its return: status is %+v", status)
	}
}

// A client that does not wait for the default network's configuration must not take
// the network from all others.
func TestACallerThatGivesUpChangesNothing(t *testing.T) {
	n := configNode(t)
	def := &fakeDefault{text: goodList}
	n.cfg.Default = def
	n.start()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	def.err = ctx.Err()
	if snap := n.look(ctx); !errors.Is(snap.none, context.Canceled) {
		t.Errorf("the caller is told %v", snap.none)
	}
	if status := n.Status(); !status.Ready {
		t.Errorf("status is %+v", status)
	}
}
