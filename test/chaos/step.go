// Package chaos plans random walks through what can happen to a node: requests, and faults
// while they are served. A walk is pure: its steps depend on its seed and on what the steps
// before it lead to by the contract, never on time or on what a node really did. So a seed
// is a walk, on every machine. The tests in test/e2e take the walks on real nodes.
package chaos

import (
	"fmt"
	"strings"
	"time"
)

// Fault is what happens while the requests of a step are served, or to an idle node.
type Fault string

// The faults.
const (
	None          Fault = "none"
	CrashDaemon   Fault = "MasCRI dies at a step of its work" // Step.At
	KillDaemon    Fault = "kill -9 of MasCRI"                 // after Step.After
	RestartEngine Fault = "restart of the engine"             // after Step.After
	KillEngine    Fault = "kill -9 of the engine"             // after Step.After
	KillSandbox   Fault = "kill -9 of a sandbox process"      // of Step.Victim
	RemoveSandbox Fault = "docker rm -f of a sandbox"         // of Step.Victim
	EditConfig    Fault = "config edit"                       // to Step.Config
	FailPlugin    Fault = "plugin failure"                    // by Step.Plugin
	FillDisk      Fault = "full disk"                         // Step.Disk, but for Step.Pages
	JumpClock     Fault = "clock jump"                        // to Step.Clock, after Step.After
)

// Faults are all faults, but for None.
var Faults = []Fault{CrashDaemon, KillDaemon, RestartEngine, KillEngine, KillSandbox, RemoveSandbox, EditConfig, FailPlugin, FillDisk, JumpClock}

// Verb is what a client asks for.
type Verb string

// The verbs.
const (
	Run    Verb = "run"
	Stop   Verb = "stop"
	Remove Verb = "remove"
)

// Request is one of a client. Those of a step are sent at the same time.
type Request struct {
	Verb Verb
	Pod  int
	// Of Run:
	HostNetwork bool
	HostPort    bool
}

// Config names a content of the CNI config directory.
type Config string

// The contents. Bridge and Ports are of one network, Other is another one.
const (
	Bridge Config = "bridge"
	Ports  Config = "bridge and portmap"
	Other  Config = "another network"
	Broken Config = "damaged"
	Empty  Config = "none"
)

// Plugin is how a plugin fails.
type Plugin string

// The failures. A plugin that fails at DEL does so until the step's requests were answered.
const (
	AddDies    Plugin = "ADD dies"
	AddLater   Plugin = "ADD answers 'try again later'"
	AddGarbage Plugin = "ADD prints garbage"
	AddHangs   Plugin = "ADD hangs"
	DelFails   Plugin = "DEL fails"
	BothFail   Plugin = "ADD and DEL fail"
)

// Disk is which file systems are full.
type Disk string

// The file systems.
const (
	StateDisk Disk = "state directory"
	StoreDisk Disk = "host-local's store"
	BothDisks Disk = "state directory and host-local's store"
)

// Step is one of a walk. What of it does not belong to its fault is zero.
type Step struct {
	Requests []Request
	Fault    Fault
	At       string // as the daemon names the steps of its work; with FailPlugin it dies there as well
	After    time.Duration
	Victim   int // pod
	Config   Config
	Plugin   Plugin
	Disk     Disk
	Pages    int           // that are left free
	Clock    time.Duration // that MasCRI's is ahead of the engine's from now on
	Restart  bool          // MasCRI is killed and started: on a full disk, while the engine is away, after a plugin's failure
}

// String tells all of it in a line.
func (s Step) String() string {
	var parts []string
	for _, r := range s.Requests {
		text := fmt.Sprintf("%s pod %d", r.Verb, r.Pod)
		if r.HostNetwork {
			text += " on the host network"
		}
		if r.HostPort {
			text += " with a host port"
		}
		parts = append(parts, text)
	}
	if len(parts) == 0 {
		parts = []string{"no request"}
	}
	text := strings.Join(parts, ", ") + "; " + string(s.Fault)
	switch s.Fault {
	case CrashDaemon:
		text += ": " + s.At
	case KillDaemon, RestartEngine, KillEngine:
		text += fmt.Sprintf(" after %v", s.After)
	case KillSandbox, RemoveSandbox:
		text += fmt.Sprintf(": pod %d", s.Victim)
	case EditConfig:
		text += ": " + string(s.Config)
	case FailPlugin:
		text += ": " + string(s.Plugin)
		if s.At != "" {
			text += ", and MasCRI dies at " + s.At
		}
	case FillDisk:
		text += fmt.Sprintf(": %s, %d pages free", s.Disk, s.Pages)
	case JumpClock:
		text += fmt.Sprintf(" to %v ahead after %v", s.Clock, s.After)
	}
	if s.Restart {
		text += "; MasCRI starts anew"
	}
	return text
}
