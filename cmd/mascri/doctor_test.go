package main

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"testing"

	"github.com/mascri/mascri/internal/doctor"
)

func TestDoctorFailsWithoutAnEngineAndMakesNothing(t *testing.T) {
	dir := t.TempDir()
	t.Setenv("TMPDIR", filepath.Join(dir, "tmp"))
	if err := os.Mkdir(filepath.Join(dir, "tmp"), 0o700); err != nil {
		t.Fatal(err)
	}
	args := []string{
		"doctor", "--output", "json", "--engine-host", "unix://" + dir + "/docker.sock", "--socket", dir + "/mascri.sock",
		"--state-dir", dir + "/state", "--cni-conf-dir", dir + "/net.d", "--cni-bin-dir", dir + "/bin",
	}
	var stdout, stderr bytes.Buffer
	if code := run(t.Context(), args, &stdout, &stderr); code != exitFailure || stderr.Len() > 0 {
		t.Errorf("exit code %d, stderr %q", code, stderr.String())
	}
	var report doctor.Report
	if err := json.Unmarshal(stdout.Bytes(), &report); err != nil {
		t.Fatal(err)
	}
	levels := map[string]doctor.Level{}
	for _, r := range report.Results {
		levels[r.Check] = r.Level
	}
	if report.Level != doctor.Fail || levels["engine"] != doctor.Fail || levels["daemon"] != doctor.Warn {
		t.Errorf("report %s", stdout.String())
	}
	var left []string
	err := filepath.WalkDir(dir, func(path string, _ os.DirEntry, err error) error {
		left = append(left, path)
		return err
	})
	if err != nil || len(left) != 2 { // dir and dir/tmp
		t.Errorf("left %v, error %v", left, err)
	}
}
