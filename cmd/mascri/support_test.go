package main

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/mascri/mascri/internal/support/supporttest"
)

func TestASupportBundleHoldsNoPlantedSecret(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root")
	}
	runtime, socket := serveRuntime(t)
	runtime.failing.Store(true)
	dir := t.TempDir()
	t.Setenv("TMPDIR", dir)
	const config = `{"cniVersion": "1.0.0", "name": "n", "type": "bridge", "etcd_password": "pl4nted", "url": "http://u:pl4nted@h", "bridge": "cni7"}`
	for name, text := range map[string]string{
		"config.toml":                     "[streaming]\naddress = '127.0.0.1:0'\n",
		"state/attachments/abc.json":      `{"sandboxId": "abc", "config": ` + config + `, "args": [["K8S_POD_NAME", "web"], ["TOKEN", "pl4nted"]]}`,
		"state/updates/abc.json":          `{"secret": "pl4nted"}`,
		"state/ledger":                    "abc n bridge\n",
		"net.d/10-n.conf":                 config,
		"net.d/n-kubeconfig":              "users:\n- user: {x: pl4nted}\n",
		"net.d/broken.json":               `{"password": "pl4nted",`,
		"log":                             "level=INFO msg=\"pull failed\" error=\"Get https://u:pl4nted@registry/v2: no\"\npassword=pl4nted\n",
		"state/sandboxes/abc/resolv.conf": "nameserver 10.96.0.10\n",
		"state/cni/results/n-abc-eth0":    `{"config": "eyJwYXNzd29yZCI6ICJwbDRudGVkIn0=", "ifName": "eth0"}`,
	} {
		file := filepath.Join(dir, name)
		if err := errors.Join(os.MkdirAll(filepath.Dir(file), 0o700), os.WriteFile(file, []byte(text), 0o600)); err != nil {
			t.Fatal(err)
		}
	}
	file := filepath.Join(dir, "bundle.tar.gz")
	args := []string{
		"support-bundle", "--file", file, "--log-file", dir + "/log", "--config", dir + "/config.toml", "--socket", socket, "--state-dir", dir + "/state",
		"--cni-conf-dir", dir + "/net.d", "--cni-bin-dir", dir, "--engine-host", "unix://" + dir + "/docker.sock",
	}
	var stdout, stderr bytes.Buffer
	if code := run(t.Context(), args, &stdout, &stderr); code != exitOK {
		t.Fatalf("exit code %d: %s", code, stderr.String())
	}
	if stat, err := os.Stat(file); err != nil || stat.Mode().Perm() != 0o600 {
		t.Errorf("the archive: %v, %v", stat, err)
	}
	archive, err := os.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	defer archive.Close()
	files := map[string]string{}
	for name, text := range supporttest.Unpack(t, archive) {
		_, inside, _ := strings.Cut(name, "/")
		files[inside] = text
	}
	for name, text := range files {
		if strings.Contains(text, "pl4nted") {
			t.Errorf("%s:\n%s", name, text)
		}
	}
	for name, want := range map[string]string{
		"version.json": criVersion, "config.toml": "state_dir", "doctor.json": `"engine"`, "net.json": "networks", "daemon.log": "pull failed",
		"state/attachments/abc.json": "cni7", "state/ledger": "abc n bridge", "state/sandboxes/abc/resolv.conf": "10.96.0.10", "state/cni/results/n-abc-eth0": "eth0",
		"cni/10-n.conf": "cni7", "cni/broken.json": "(removed)", "errors.txt": "pods.json: ", "host/kernel": "Linux",
	} {
		if !strings.Contains(files[name], want) {
			t.Errorf("%s does not say %q:\n%s", name, want, files[name])
		}
	}
	if _, ok := files["cni/n-kubeconfig"]; ok {
		t.Error("it has the credentials of a plugin")
	}
	// What is there is never written over.
	if code := run(t.Context(), args, &stdout, &stderr); code != exitFailure || !strings.Contains(stderr.String(), "file exists") {
		t.Errorf("the second time: exit code %d, %s", code, stderr.String())
	}
}
