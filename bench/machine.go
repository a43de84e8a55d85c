package main

import (
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// machine is where and when the samples were taken.
type machine struct {
	Time       time.Time `json:"time"`
	Commit     string    `json:"commit"`
	CPU        string    `json:"cpu"`
	CPUs       int       `json:"cpus"`
	System     string    `json:"system"`
	Kernel     string    `json:"kernel"`
	Runc       string    `json:"runc"`
	Cgroup     string    `json:"cgroup"`
	LoadBefore string    `json:"loadBefore"` // that of others
	LoadAfter  string    `json:"loadAfter"`
}

func describe(repo string) machine {
	m := machine{
		Time:       time.Now().UTC().Truncate(time.Second),
		Commit:     output("git", "-c", "safe.directory="+repo, "-C", repo, "describe", "--always", "--dirty"),
		CPU:        value("/proc/cpuinfo", "model name"),
		CPUs:       runtime.NumCPU(),
		System:     strings.Trim(value("/etc/os-release", "PRETTY_NAME"), `"`),
		Kernel:     output("uname", "-r"),
		Runc:       strings.TrimPrefix(output("/usr/sbin/runc", "--version"), "runc version "),
		Cgroup:     "v1",
		LoadBefore: loadAverage(),
	}
	var fs unix.Statfs_t
	if unix.Statfs("/sys/fs/cgroup", &fs) == nil && fs.Type == unix.CGROUP2_SUPER_MAGIC {
		m.Cgroup = "v2"
	}
	return m
}

func (m machine) String() string {
	return fmt.Sprintf("MasCRI %s, %s, on %d CPUs (%s), %s, Linux %s, runc %s,\ncgroup %s. Load average %s before and %s after.",
		m.Commit, m.Time.Format(time.DateOnly), m.CPUs, m.CPU, m.System, m.Kernel, m.Runc, m.Cgroup, m.LoadBefore, m.LoadAfter)
}

// loadAverage is over the last minute.
func loadAverage() string {
	text, err := os.ReadFile("/proc/loadavg")
	if err != nil {
		return "unknown"
	}
	first, _, _ := strings.Cut(string(text), " ")
	return first
}

// output is the first line that a command prints; "unknown" if it can't.
func output(name string, args ...string) string {
	out, err := exec.Command(name, args...).Output()
	if err != nil {
		return "unknown"
	}
	first, _, _ := strings.Cut(string(out), "\n")
	return first
}

// value is the first one of key in a file of lines "key: value" or "key=value".
func value(file, key string) string {
	text, err := os.ReadFile(file)
	if err != nil {
		return "unknown"
	}
	for line := range strings.Lines(string(text)) {
		if i := strings.IndexAny(line, ":="); i >= 0 && strings.TrimSpace(line[:i]) == key {
			return strings.TrimSpace(line[i+1:])
		}
	}
	return "unknown"
}
