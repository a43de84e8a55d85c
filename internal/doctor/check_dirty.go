package doctor

import (
	"fmt"
	"strings"
	"time"

	"github.com/mascri/mascri/internal/pod"
)

// checkDirty names what CNI DEL could not undo. Pods can run all the same, without the
// addresses and host ports that are held.
func checkDirty(s seen) []Result {
	var results []Result
	for _, d := range s.network.Dirty {
		results = append(results, Result{"dirty queue", Warn, dirtyMessage(d),
			"mend what the error names: the daemon tries again by itself, at least every five minutes and at each start"})
	}
	return results
}

func dirtyMessage(d pod.DirtyAttachment) string {
	var held []string
	for _, ip := range d.IPs {
		held = append(held, ip.String())
	}
	holds := ""
	if len(held) > 0 {
		holds = ", and holds " + strings.Join(held, ", ")
	}
	return fmt.Sprintf("pod %s (sandbox %.12s) is off network %q only in part since %s, after %d tries%s: %s",
		d.Pod, d.SandboxID, d.Network, d.Since.UTC().Format(time.RFC3339), d.Tries, holds, strings.Join(strings.Fields(d.Error), " "))
}

// checkLeaks names what former pods left and the daemon could not remove.
func checkLeaks(s seen) []Result {
	var results []Result
	for _, l := range s.network.Leaks {
		message := fmt.Sprintf("%s of network %q is left of a former pod: %s", l.Kind, l.Network, l.What)
		if l.Kind == pod.LeakUnreserved {
			message = fmt.Sprintf("an address in use on network %q is not reserved: %s", l.Network, l.What)
		}
		if l.Error != "" {
			message += ": " + strings.Join(strings.Fields(l.Error), " ")
		}
		results = append(results, Result{"leaks", Warn, message, "mend what the error names: the daemon tries again every ten minutes; see mascri net leaks"})
	}
	return results
}

// checkQuarantine names the records that were set aside. What their sandboxes left is the
// business of checkLeaks.
func checkQuarantine(s seen) []Result {
	var results []Result
	for _, q := range s.network.Quarantined {
		results = append(results, Result{"quarantine", Warn, fmt.Sprintf("the record %s can't be used: %s", q.File, q.Reason),
			"nothing needs it any more: delete it once you know how it came about, such as a state directory restored from a backup"})
	}
	return results
}
