package enginetest

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/mascri/mascri/internal/pod"
)

// Files returns new files to bind into a sandbox.
func Files(t testing.TB) pod.Files {
	t.Helper()
	dir := t.TempDir()
	files := pod.Files{
		ResolvConf: filepath.Join(dir, "resolv.conf"), Hosts: filepath.Join(dir, "hosts"), Hostname: filepath.Join(dir, "hostname"),
	}
	for _, path := range []string{files.ResolvConf, files.Hosts, files.Hostname} {
		if err := os.WriteFile(path, []byte(filepath.Base(path)+" of the test\n"), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return files
}
