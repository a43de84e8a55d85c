// Package doctor examines whether pods can run on this node: it looks at the host,
// the engine, the network and the daemon, and says for each what is wrong and how to
// mend it. It changes nothing but by Mend, and works with the daemon running or not.
//
// Looking (seen.go and what it calls) and judging (check_*.go, pure functions) are
// apart, so that every verdict can be tested without a node in that state.
package doctor

import "context"

// Level is how bad a result is.
type Level string

// The levels. Pods can't run, or not all of them, where there is a Fail; a Warn is
// what an operator may want otherwise.
const (
	OK   Level = "ok"
	Warn Level = "warn"
	Fail Level = "fail"
)

// Result is one finding of one check.
type Result struct {
	Check   string `json:"check"` // what was looked at, such as "engine"
	Level   Level  `json:"level"`
	Message string `json:"message"`
	Fix     string `json:"fix,omitempty"` // what to do; never empty with Fail
}

// Report is what an examination found.
type Report struct {
	Level   Level    `json:"level"` // the worst of the results'
	Results []Result `json:"results"`
	// Mended is what was mended before the examination, where that was asked for.
	Mended []Repair `json:"mended,omitempty"`
}

// Examine looks at everything that sources lead to. It takes a few seconds at most,
// as everything that could hang has a deadline.
func Examine(ctx context.Context, sources Sources) Report {
	return judge(look(ctx, sources))
}

// judge runs every check on what was seen.
func judge(s seen) Report {
	report := Report{Level: OK}
	for _, check := range []func(seen) []Result{
		checkRoot,
		checkEngine,
		checkCgroups,
		checkOOMScore,
		checkImage,
		checkNetns,
		checkConfig,
		checkPlugins,
		checkVersions,
		checkDefaultNetwork,
		checkSubnets,
		checkOverlaps,
		checkRoom,
		checkDirty,
		checkLeaks,
		checkQuarantine,
		checkForwarding,
		checkIPv6,
		checkRPFilter,
		checkBridgeNF,
		checkMTU,
		checkForwardPolicy,
		checkIPTables,
		checkDaemon,
	} {
		for _, r := range check(s) {
			report.Results = append(report.Results, r)
			if report.Level == OK || r.Level == Fail {
				report.Level = r.Level
			}
		}
	}
	return report
}
