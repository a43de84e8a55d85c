package install_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/mascri/mascri/internal/golden"
	"github.com/mascri/mascri/internal/install"
)

// A test that kills an installation runs this binary once more.
const (
	envRoot = "INSTALL_TEST_ROOT"
	envVerb = "INSTALL_TEST_VERB"
	envKill = "INSTALL_TEST_KILL" // before which step
)

func TestMain(m *testing.M) {
	root := os.Getenv(envRoot)
	if root == "" {
		os.Exit(m.Run())
	}
	left, err := strconv.Atoi(os.Getenv(envKill))
	if err == nil {
		err = do(os.Getenv(envVerb), root, func() {
			if left--; left < 0 {
				_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
			}
		})
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// options are for a machine in root, whose program and plugins are beside it.
func options(root string) install.Options {
	return install.Options{
		Root: root, StateDir: "/var/lib/mascri", Program: root + ".release/mascri", Plugins: root + ".release/cni", Kubernetes: true,
		Units:  install.Units{Wanted: true, Service: []byte("service\n"), Socket: []byte("socket\n"), Endpoint: "/run/mascri/mascri.sock"},
		Engine: install.Engine{ConfigFile: install.DockerConfig},
	}
}

func do(verb, root string, step func()) error {
	o := options(root)
	run := func(context.Context, []string) error { return errors.New("nothing is run outside of /") }
	lock, err := install.Lock(o)
	if err != nil {
		return err
	}
	defer lock.Close()
	if verb == "install" {
		plan, err := install.New(o)
		if err != nil {
			return err
		}
		return install.Apply(context.Background(), o, plan, run, step)
	}
	plan, err := install.Undo(o)
	if err != nil {
		return err
	}
	return install.Revert(context.Background(), o, plan, run, step)
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func write(t *testing.T, path, text string) {
	t.Helper()
	must(t, os.MkdirAll(filepath.Dir(path), 0o755))
	must(t, os.WriteFile(path, []byte(text), 0o755))
}

// machine makes one with files of a user's own.
func machine(t *testing.T) (root string) {
	t.Helper()
	root = filepath.Join(t.TempDir(), "root")
	write(t, root+".release/mascri", "program 1\n")
	write(t, root+".release/cni/bridge", "bridge\n")
	write(t, root+".release/cni/portmap", "portmap\n")
	write(t, root+".release/cni/README", "no program\n")
	must(t, os.Chmod(root+".release/cni/README", 0o644))
	write(t, root+"/opt/cni/bin/portmap", "the user's portmap\n")
	write(t, root+"/etc/crictl.yaml", "timeout: 5\n")
	must(t, os.Chmod(root+"/etc/crictl.yaml", 0o640))
	write(t, root+"/etc/docker/daemon.json", "{\n    \"log-level\": \"warn\",\n    \"live-restore\": false\n}\n")
	must(t, os.Chown(root+"/etc/docker/daemon.json", 0, 7))
	must(t, os.MkdirAll(root+"/etc/systemd/system", 0o755))
	must(t, os.MkdirAll(root+"/var/lib", 0o755))
	return root
}

// tree is all that is below root: mode, group where it is not root, and content or target.
func tree(t *testing.T, root string) map[string]string {
	t.Helper()
	all := map[string]string{}
	must(t, filepath.WalkDir(root, func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		stat, err := entry.Info()
		if err != nil {
			return err
		}
		text := stat.Mode().String()
		if gid := stat.Sys().(*syscall.Stat_t).Gid; gid != 0 {
			text += fmt.Sprint(" of ", gid)
		}
		switch stat.Mode().Type() {
		case 0:
			content, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			text += " " + string(content)
		case fs.ModeSymlink:
			target, err := os.Readlink(path)
			if err != nil {
				return err
			}
			text += " -> " + target
		}
		all[strings.TrimPrefix(path, root)] = text
		return nil
	}))
	return all
}

func inode(t *testing.T, path string) uint64 {
	t.Helper()
	stat, err := os.Stat(path)
	must(t, err)
	return stat.Sys().(*syscall.Stat_t).Ino
}

func same(t *testing.T, what string, want, got map[string]string) {
	t.Helper()
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("%s (-want +got):\n%s", what, diff)
	}
}

func text(t *testing.T, plan install.Plan) string {
	t.Helper()
	var b bytes.Buffer
	must(t, plan.WriteText(&b))
	return b.String()
}

func TestPlanIsTold(t *testing.T) {
	root := machine(t)
	before := tree(t, root)
	plan, err := install.New(options(root))
	must(t, err)
	golden.Compare(t, "install.txt", []byte(text(t, plan)))
	same(t, "planning changed something", before, tree(t, root))

	must(t, do("install", root, nil))
	installed := tree(t, root)
	plan, err = install.Undo(options(root))
	must(t, err)
	golden.Compare(t, "uninstall.txt", []byte(text(t, plan)))
	same(t, "planning to undo changed something", installed, tree(t, root))
}

func TestInstallTwiceChangesNothing(t *testing.T) {
	root := machine(t)
	must(t, do("install", root, nil))
	installed := tree(t, root)
	for path, want := range map[string]string{
		"/usr/local/bin/mascri": "-rwxr-xr-x program 1\n",
		"/opt/cni/bin/bridge":   "-rwxr-xr-x bridge\n",
		"/opt/cni/bin/portmap":  "-rwxr-xr-x the user's portmap\n",
		"/etc/systemd/system/sockets.target.wants/mascri.socket": "Lrwxrwxrwx -> /etc/systemd/system/mascri.socket",
		"/etc/docker/daemon.json":                                "-rwxr-xr-x of 7 {\n    \"log-level\": \"warn\",\n    \"live-restore\": true\n}\n",
		"/etc/crictl.yaml.before-mascri":                         "-rw-r----- timeout: 5\n",
	} {
		if got := installed[path]; got != want {
			t.Errorf("%s is %q, want %q", path, got, want)
		}
	}
	plan, err := install.New(options(root))
	must(t, err)
	if !plan.Empty() || !strings.HasPrefix(text(t, plan), "there is nothing to change\n") {
		t.Errorf("the second time:\n%s", text(t, plan))
	}
	must(t, do("install", root, nil))
	same(t, "the second time", installed, tree(t, root))
}

func TestUninstallLeavesTheMachineAsItWas(t *testing.T) {
	root := machine(t)
	before, crictl := tree(t, root), inode(t, root+"/etc/crictl.yaml")
	must(t, do("install", root, nil))
	write(t, root+".release/mascri", "program 2\n") // an upgrade in between
	must(t, do("install", root, nil))
	if got := tree(t, root)["/usr/local/bin/mascri"]; got != "-rwxr-xr-x program 2\n" {
		t.Errorf("after an upgrade: %q", got)
	}
	must(t, do("uninstall", root, nil))
	same(t, "after uninstall", before, tree(t, root))
	if inode(t, root+"/etc/crictl.yaml") != crictl {
		t.Error("the user's crictl.yaml is a copy")
	}
	must(t, do("uninstall", root, nil)) // there is nothing to do
	same(t, "after uninstall, twice", before, tree(t, root))
}

func TestUninstallKeepsTheDaemonsState(t *testing.T) {
	root := machine(t)
	must(t, do("install", root, nil))
	write(t, root+"/var/lib/mascri/instance", "x\n")
	must(t, do("uninstall", root, nil))
	if left := tree(t, root); left["/var/lib/mascri/instance"] == "" || left["/var/lib/mascri/install.json"] != "" {
		t.Errorf("left: %v", left)
	}
}

// What was edited since is neither lost nor in the way.
func TestUninstallKeepsEdits(t *testing.T) {
	root := machine(t)
	before := tree(t, root)
	must(t, do("install", root, nil))
	write(t, root+"/etc/crictl.yaml", "edited\n")
	write(t, root+"/etc/systemd/system/mascri.service", "edited, too\n")
	write(t, root+"/etc/docker/daemon.json", "{\"live-restore\": true, \"debug\": true}")
	must(t, do("uninstall", root, nil))
	before["/etc/crictl.yaml.after-mascri"] = "-rw-r--r-- edited\n"
	before["/etc/systemd/system/mascri.service.after-mascri"] = "-rw-r--r-- edited, too\n"
	before["/etc/docker/daemon.json.before-mascri"] = before["/etc/docker/daemon.json"]
	before["/etc/docker/daemon.json"] = "-rwxr-xr-x of 7 {\"live-restore\": false, \"debug\": true}"
	same(t, "after uninstall", before, tree(t, root))
}

func TestInstallAgainKeepsEdits(t *testing.T) {
	root := machine(t)
	before := tree(t, root)
	must(t, do("install", root, nil))
	write(t, root+"/etc/crictl.yaml", "edited\n")
	must(t, do("install", root, nil))
	if got := tree(t, root); got["/etc/crictl.yaml.before-mascri"] != before["/etc/crictl.yaml"] || got["/etc/crictl.yaml.before-mascri.1"] != "-rw-r--r-- edited\n" {
		t.Errorf("backups: %v", got)
	}
	must(t, do("uninstall", root, nil))
	before["/etc/crictl.yaml.before-mascri.1"] = "-rw-r--r-- edited\n"
	same(t, "after uninstall", before, tree(t, root))
}

// What the engine's users wrote is never lost: neither after the backup was tidied away, nor
// where it is older than their last change.
func TestUninstallKeepsTheEnginesSettings(t *testing.T) {
	const path, backup = "/etc/docker/daemon.json", "/etc/docker/daemon.json.before-mascri"
	for name, between := range map[string]func(t *testing.T, root string, before map[string]string){
		"the backup is gone": func(t *testing.T, root string, _ map[string]string) {
			must(t, os.Remove(root+backup))
		},
		"written anew, and installed again": func(t *testing.T, root string, before map[string]string) {
			before[backup] = before[path]
			must(t, os.Remove(root+path))
			must(t, os.WriteFile(root+path, []byte("{\"data-root\": \"/data\"}"), 0o644))
			must(t, do("install", root, nil))
			before[path] = "-rw-r--r-- {\"data-root\": \"/data\"}"
		},
	} {
		t.Run(name, func(t *testing.T) {
			root := machine(t)
			before := tree(t, root)
			must(t, do("install", root, nil))
			between(t, root, before)
			must(t, do("uninstall", root, nil))
			same(t, "after uninstall", before, tree(t, root))
		})
	}
}

func TestUninstallKeepsEditsOfEachTime(t *testing.T) {
	root := machine(t)
	before := tree(t, root)
	for _, text := range []string{"first\n", "second\n"} {
		must(t, do("install", root, nil))
		write(t, root+"/etc/crictl.yaml", text)
		must(t, do("uninstall", root, nil))
	}
	before["/etc/crictl.yaml.after-mascri"] = "-rw-r--r-- first\n"
	before["/etc/crictl.yaml.after-mascri.1"] = "-rw-r--r-- second\n"
	same(t, "after uninstall", before, tree(t, root))
}

// A package that comes later would be hidden by what install made.
func TestPackageAfterInstallIsRefused(t *testing.T) {
	root := machine(t)
	before := tree(t, root)
	must(t, do("install", root, nil))
	write(t, root+"/usr/lib/systemd/system/mascri.service", "")
	if _, err := install.New(options(root)); err == nil || !strings.Contains(err.Error(), "mascri is there twice") {
		t.Errorf("install again: %v", err)
	}
	must(t, do("uninstall", root, nil))
	must(t, do("install", root, nil)) // the rest of it
	must(t, do("uninstall", root, nil))
	must(t, os.RemoveAll(root+"/usr"))
	same(t, "after all", before, tree(t, root))
}

// Whichever step a kill -9 comes at, install and uninstall end right when they are run next.
func TestKilledAtEachStep(t *testing.T) {
	reference := machine(t)
	untouched := tree(t, reference)
	must(t, do("install", reference, nil))
	installed := tree(t, reference)
	for _, tt := range []struct {
		prepare, killed, then string
		want                  map[string]string
	}{
		{"", "install", "install", installed},
		{"", "install", "uninstall", untouched},
		{"install", "uninstall", "uninstall", untouched},
		{"install", "uninstall", "install", installed},
	} {
		t.Run(tt.killed+", then "+tt.then, func(t *testing.T) {
			t.Parallel()
			steps := 0
			for ; ; steps++ {
				root := machine(t)
				if tt.prepare != "" {
					must(t, do(tt.prepare, root, nil))
				}
				ended := kill(t, root, tt.killed, steps)
				must(t, do(tt.then, root, nil))
				// The manifest tells the history, too.
				got, want := tree(t, root), tt.want
				if tt.then == "install" {
					got, want = without(got), without(want)
				}
				same(t, fmt.Sprintf("killed at step %d", steps), want, got)
				if t.Failed() || ended {
					break
				}
			}
			if steps < 20 {
				t.Errorf("%d steps only", steps)
			}
		})
	}
}

func without(tree map[string]string) map[string]string {
	rest := map[string]string{}
	for path, text := range tree {
		if filepath.Base(path) != "install.json" {
			rest[path] = text
		}
	}
	return rest
}

// kill runs verb and kills it before a step; it returns true where it ended before.
func kill(t *testing.T, root, verb string, step int) bool {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), os.Args[0])
	cmd.Env = append(os.Environ(), envRoot+"="+root, envVerb+"="+verb, envKill+"="+strconv.Itoa(step))
	out, err := cmd.CombinedOutput()
	if err == nil {
		return true
	}
	if cmd.ProcessState.Sys().(syscall.WaitStatus).Signal() != syscall.SIGKILL {
		t.Fatalf("%s: %v: %s", verb, err, out)
	}
	return false
}

func TestRefused(t *testing.T) {
	for name, tt := range map[string]struct {
		spoil func(root string) error
		want  string
	}{
		"the engine's configuration is no JSON": {
			func(root string) error {
				return os.WriteFile(root+"/etc/docker/daemon.json", []byte("{\n  \"debug\": true,\n}\n"), 0o644)
			},
			"/etc/docker/daemon.json:3:1: invalid character '}' looking for beginning of object key string; mend it first",
		},
		"a manifest of a newer version": {
			func(root string) error {
				return errors.Join(os.MkdirAll(root+"/var/lib/mascri", 0o700), os.WriteFile(root+"/var/lib/mascri/install.json", []byte(`{"version": 2}`), 0o600))
			},
			"install.json: version 2, this build knows version 1: written by a newer mascri",
		},
		"a link out of the root": {
			func(root string) error {
				return errors.Join(os.RemoveAll(root+"/etc/systemd"), os.Symlink("/tmp", root+"/etc/systemd"))
			},
			"a symbolic link leads out of --root, to /tmp",
		},
		"a link of the state's out of the root": {
			func(root string) error {
				return errors.Join(os.RemoveAll(root+"/var/lib"), os.MkdirAll(root+"/var", 0o755), os.Symlink("/tmp", root+"/var/lib"))
			},
			"a symbolic link leads out of --root, to /tmp",
		},
		"a directory in the way": {
			func(root string) error { return os.MkdirAll(root+"/usr/local/bin/mascri", 0o755) },
			"/usr/local/bin/mascri is no file",
		},
		"no root": {os.RemoveAll, "no such file or directory"},
	} {
		t.Run(name, func(t *testing.T) {
			root := machine(t)
			must(t, tt.spoil(root))
			if _, err := install.New(options(root)); err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("%v, want %q", err, tt.want)
			}
			if _, err := os.Stat(root); os.IsNotExist(err) {
				if _, err := install.Lock(options(root)); err == nil {
					t.Error("the root is made")
				}
			}
		})
	}
}

func TestOneAtATime(t *testing.T) {
	o := options(machine(t))
	lock, err := install.Lock(o)
	must(t, err)
	if _, err := install.Lock(o); err == nil {
		t.Error("two at once")
	}
	lock.Close()
	lock, err = install.Lock(o)
	must(t, err)
	lock.Close()
}

func TestPackagedProgramIsLeft(t *testing.T) {
	root := machine(t)
	write(t, root+"/usr/lib/systemd/system/mascri.service", "")
	plan, err := install.New(options(root))
	must(t, err)
	for _, c := range plan.Changes {
		if strings.Contains(c.Path, "/bin/mascri") || strings.HasSuffix(c.Path, "/mascri.service") {
			t.Errorf("%s %s", c.Action, c.Path)
		}
	}
	if !strings.Contains(text(t, plan), "note: /usr/lib/systemd/system/mascri.service is there") {
		t.Error(text(t, plan))
	}
}
