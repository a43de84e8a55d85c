package doctor

import (
	"errors"
	"fmt"
	"io/fs"

	cri "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// publicBits are those of a socket's mode that let others than root and its group in.
const publicBits = 0o007

func checkDaemon(s seen) []Result {
	const check = "daemon"
	d := s.daemon
	switch {
	case errors.Is(d.statErr, fs.ErrNotExist):
		return []Result{{check, Warn, "does not run: there is no socket " + d.socket, start(s, "start")}}
	case d.statErr != nil:
		return []Result{{check, Fail, d.statErr.Error(), "set socket to a path that can be used"}}
	case d.mode.Type() != fs.ModeSocket:
		return []Result{{check, Fail, d.socket + " is no socket", "remove it, or set socket to another path"}}
	case d.err != nil:
		return []Result{{check, Fail, fmt.Sprintf("no answer at %s within %v: %v", d.socket, daemonLimit, d.err), start(s, "restart")}}
	case d.name != runtimeName:
		return []Result{{check, Fail, fmt.Sprintf("%s is the socket of another runtime, %s %s", d.socket, d.name, d.version), "set socket to another path"}}
	}
	results := []Result{{check, OK, fmt.Sprintf("version %s answers at %s", d.version, d.socket), ""}}
	if d.mode.Perm()&publicBits != 0 {
		results = append(results, Result{check, Fail, fmt.Sprintf("%s has mode %#o: whoever can write to it owns this machine", d.socket, d.mode.Perm()),
			"chmod 0660 " + d.socket})
	}
	for _, c := range d.conditions {
		switch {
		case c.GetStatus():
			results = append(results, Result{check, OK, c.GetType(), ""})
		case c.GetType() == cri.NetworkReady && d.network != nil:
			results = append(results, Result{check, Fail, fmt.Sprintf("not %s: %s", c.GetType(), c.GetReason()), "see CNI above"})
		default:
			results = append(results, Result{check, Fail, fmt.Sprintf("not %s: %s: %s", c.GetType(), c.GetReason(), c.GetMessage()), "see the message, and engine above"})
		}
	}
	switch {
	case d.metrics.Error != "":
		results = append(results, Result{"metrics", Warn, fmt.Sprintf("not served at %s: %s", d.metrics.Address, d.metrics.Error),
			"end what has the address, or set metrics.address to another; the daemon tries again by itself, every 30 seconds"})
	case d.metrics.Address != "":
		results = append(results, Result{"metrics", OK, fmt.Sprintf("served at http://%s/metrics", d.metrics.Address), ""})
	}
	return results
}

// start tells how the daemon is started, or restarted: where systemd has its socket, no other
// could listen there.
func start(s seen, verb string) string {
	if s.unit {
		return "systemctl " + verb + " mascri.service; why it ended: journalctl --unit mascri.service"
	}
	return map[string]string{"start": "start it: mascri serve", "restart": "end it and start it anew: mascri serve"}[verb]
}
