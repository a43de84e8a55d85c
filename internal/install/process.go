package install

import (
	"bytes"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// LookAtProcess adds what dockerd's command line tells: proc is "/proc". Where it does not
// run, or is not to be seen from here, what is set stays.
func LookAtProcess(proc string, state *Engine) {
	names, err := filepath.Glob(filepath.Join(proc, "[0-9]*", "comm"))
	if err != nil {
		return
	}
	for _, name := range names {
		comm, err := os.ReadFile(name)
		if err != nil || strings.TrimSpace(string(comm)) != "dockerd" {
			continue
		}
		line, err := os.ReadFile(filepath.Join(filepath.Dir(name), "cmdline"))
		if err != nil {
			continue
		}
		state.PID, _ = strconv.Atoi(filepath.Base(filepath.Dir(name)))
		state.read(strings.Split(string(bytes.TrimRight(line, "\x00")), "\x00"))
		return
	}
}

func (e *Engine) read(args []string) {
	for i, arg := range args {
		name, value, joined := strings.Cut(arg, "=")
		switch name {
		case "--live-restore":
			e.LiveRestoreFlag = true
		case "--config-file":
			if !joined && i+1 < len(args) {
				value = args[i+1]
			}
			e.ConfigFile = value
		}
	}
}
