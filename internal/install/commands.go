package install

import (
	"strconv"
	"strings"
)

// changes are paths that were changed.
type changes []string

func (c changes) below(prefixes ...string) bool {
	for _, path := range c {
		for _, prefix := range prefixes {
			if strings.HasPrefix(path, prefix) {
				return true
			}
		}
	}
	return false
}

// commands make the changes take effect.
func (o Options) commands(changed changes) []Command {
	if o.Root != "/" {
		return nil
	}
	var list []Command
	if changed.below(modulesPath, sysctlPath) {
		list = append(list,
			Command{[]string{"modprobe", "-a", "overlay", "br_netfilter"}, "the modules are loaded now, too"},
			Command{[]string{"sysctl", "-q", "-p", sysctlPath}, "and the settings are made"})
	}
	list = append(list, o.reloadEngine(changed)...)
	if !o.Units.Wanted {
		return list
	}
	if changed.below(unitDir) {
		list = append(list, Command{[]string{"systemctl", "daemon-reload"}, "systemd reads the units"})
	}
	if changed.below(programPath, unitDir+"/mascri.", "/etc/mascri/") {
		list = append(list, Command{[]string{"systemctl", "restart", "mascri.socket", "mascri.service"}, "the daemon of this version runs; pods are not touched"})
	}
	return list
}

// reloadEngine makes the engine read its configuration: a reload, which no container notices.
func (o Options) reloadEngine(changed changes) []Command {
	if !o.Engine.Running || !changed.below(o.Engine.ConfigFile) {
		return nil
	}
	const why = "the engine reads its configuration; it is not restarted"
	switch {
	case o.Engine.Systemd:
		return []Command{{[]string{"systemctl", "reload", "docker.service"}, why}}
	case o.Engine.PID != 0:
		return []Command{{[]string{"kill", "-HUP", strconv.Itoa(o.Engine.PID)}, why}}
	}
	return nil
}
