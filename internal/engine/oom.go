package engine

import (
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// minOOMScore is the kernel's least oom_score_adj, OOM_SCORE_ADJ_MIN.
const minOOMScore = -1000

// OOMFloor returns the lowest oom_score_adj that may be given to a process here.
// Without CAP_SYS_RESOURCE nobody may go below what he has, so that the floor is
// this process's own value, and restricted is true.
func OOMFloor() (floor int, restricted bool) {
	if hasCapability(unix.CAP_SYS_RESOURCE) {
		return minOOMScore, false
	}
	text, err := os.ReadFile("/proc/self/oom_score_adj")
	if err != nil {
		return 0, true
	}
	own, err := strconv.Atoi(strings.TrimSpace(string(text)))
	if err != nil {
		return 0, true
	}
	return own, true
}

func hasCapability(capability uint) bool {
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var sets [2]unix.CapUserData
	if err := unix.Capget(&header, &sets[0]); err != nil {
		return false
	}
	return sets[capability/32].Effective&(1<<(capability%32)) != 0
}

func (e *Engine) readOOMFloor() int {
	floor, restricted := OOMFloor()
	if restricted {
		e.log.Warn("oom_score_adj is clamped: this process lacks CAP_SYS_RESOURCE", "floor", floor)
	}
	return floor
}
