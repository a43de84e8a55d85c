package network

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/containernetworking/cni/libcni"
	"github.com/containernetworking/cni/pkg/utils"
	"github.com/containernetworking/cni/pkg/version"
)

// network is one valid network configuration. It is never changed.
type network struct {
	file string // "" for the embedded default network
	list *libcni.NetworkConfigList
}

// declares tells whether a plugin of net wants to be told of capability.
func (net *network) declares(capability string) bool {
	return slices.ContainsFunc(net.list.Plugins, func(plugin *libcni.PluginConfig) bool {
		return plugin.Network.Capabilities[capability]
	})
}

// same tells whether other would attach sandboxes in the same way from the same file.
func (net *network) same(other *network) bool {
	return net.file == other.file && bytes.Equal(net.list.Bytes, other.list.Bytes)
}

// configFor returns the conflist that a sandbox with capabilities caps is attached
// by. On the embedded default network, plugins that would have nothing to do for it
// are left out: they cost a third of the time.
func configFor(net *network, caps map[string]json.RawMessage) ([]byte, error) {
	if net.file != "" {
		return net.list.Bytes, nil
	}
	lean := *net.list
	lean.Plugins = slices.DeleteFunc(slices.Clone(lean.Plugins), func(plugin *libcni.PluginConfig) bool {
		idle := plugin.Network.Type == "portmap" && caps[capPortMappings] == nil
		return idle || plugin.Network.Type == "bandwidth" && caps[capBandwidth] == nil
	})
	inlined, err := inline(&lean)
	if err != nil {
		return nil, err
	}
	return inlined.Bytes, nil
}

// origin names a configuration for people.
func origin(name, file string) string {
	if file == "" {
		return fmt.Sprintf("network %q (the embedded default network)", name)
	}
	return fmt.Sprintf("network %q (%s)", name, file)
}

// parseFile reads a configuration in any of the three forms: a list, a list whose
// plugins are in files of a sub-directory that is called as the network, and a
// single plugin. Errors name file, line and column.
func parseFile(file string) (*network, error) {
	data, err := readConfig(file)
	if err != nil {
		return nil, err
	}
	list, err := parseBytes(file, data)
	if err != nil {
		return nil, err
	}
	if !list.LoadOnlyInlinedPlugins {
		if err := addPluginFiles(list, filepath.Join(filepath.Dir(file), list.Name)); err != nil {
			return nil, err
		}
	}
	return finish(file, list)
}

// readConfig reads a regular file: the attempt to read a pipe would hang.
func readConfig(file string) ([]byte, error) {
	stat, err := os.Stat(file)
	if err != nil {
		return nil, err
	}
	if !stat.Mode().IsRegular() {
		return nil, fmt.Errorf("%s: not a regular file", file)
	}
	return os.ReadFile(file)
}

// finish makes a network of a list that has all its plugins.
func finish(file string, list *libcni.NetworkConfigList) (*network, error) {
	if len(list.Plugins) == 0 {
		return nil, fmt.Errorf("%s: no plugins, neither in it nor as *.conf in a directory %q beside it", file, list.Name)
	}
	inlined, err := inline(list)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", file, err)
	}
	return &network{file: file, list: inlined}, nil
}

// parseBytes reads what is in the file itself.
func parseBytes(file string, data []byte) (*libcni.NetworkConfigList, error) {
	src := source{file: file, data: data}
	fields, err := src.object(0, data)
	if err != nil {
		return nil, err
	}
	plugins, isList := fields["plugins"]
	isListFile := filepath.Ext(file) == ".conflist"
	switch {
	case isList && !isListFile:
		return nil, src.at(plugins.offset, `has "plugins", so it is a list: rename it to .conflist`)
	case !isList && isListFile && fields["type"].raw != nil:
		return nil, src.at(fields["type"].offset, `is a single plugin: put it into a list "plugins", or rename it to .conf`)
	}
	if err := src.checkHeader(fields); err != nil {
		return nil, err
	}
	if !isListFile {
		return src.single(fields)
	}
	if isList {
		if err := src.checkPlugins(plugins); err != nil {
			return nil, err
		}
	}
	list, err := libcni.NetworkConfFromBytes(data)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", file, err)
	}
	if list.CNIVersion == "" {
		return nil, src.at(fields["cniVersions"].offset, "none of these versions is known, the newest known is "+version.Current())
	}
	return list, nil
}

// single makes a list of a file that holds one plugin.
func (src source) single(fields map[string]field) (*libcni.NetworkConfigList, error) {
	if _, err := src.text(fields, "cniVersion"); err != nil {
		return nil, err
	}
	if err := src.checkPlugin(0, fields); err != nil {
		return nil, err
	}
	plugin, err := libcni.NetworkPluginConfFromBytes(src.data)
	if err != nil {
		return nil, src.wrap(err)
	}
	return &libcni.NetworkConfigList{
		Name:                   plugin.Network.Name,
		CNIVersion:             plugin.Network.CNIVersion,
		LoadOnlyInlinedPlugins: true,
		Plugins:                []*libcni.PluginConfig{plugin},
	}, nil
}

// checkHeader looks at the name and the version of a network.
func (src source) checkHeader(fields map[string]field) error {
	name, err := src.text(fields, "name")
	if err != nil {
		return err
	}
	if err := utils.ValidateNetworkName(name); err != nil {
		return src.at(fields["name"].offset, err.Error())
	}
	if _, ok := fields["cniVersions"]; ok {
		if _, ok := fields["cniVersion"]; !ok {
			return nil // libcni picks one
		}
	}
	asked, err := src.text(fields, "cniVersion")
	if err != nil {
		return err
	}
	if known := version.All.SupportedVersions(); !slices.Contains(known, asked) && fields["cniVersions"].raw == nil {
		return src.at(fields["cniVersion"].offset, fmt.Sprintf("cniVersion %q is not one of %s", asked, strings.Join(known, ", ")))
	}
	return nil
}

func (src source) checkPlugins(plugins field) error {
	entries, err := src.array(plugins)
	if err != nil {
		return err
	}
	if len(entries) == 0 {
		return src.at(plugins.offset, `"plugins" is empty`)
	}
	for _, entry := range entries {
		fields, err := src.object(entry.offset, entry.raw)
		if err != nil {
			return err
		}
		if err := src.checkPlugin(entry.offset, fields); err != nil {
			return err
		}
		if _, err := libcni.NetworkPluginConfFromBytes(entry.raw); err != nil {
			return src.wrapAt(entry.offset, err)
		}
	}
	return nil
}

// checkPlugin looks at the type of a plugin, and of the IPAM plugin that it calls.
func (src source) checkPlugin(offset int, fields map[string]field) error {
	plugin, err := src.textAt(offset, fields, "type")
	if err != nil {
		return err
	}
	if plugin == "" || strings.ContainsRune(plugin, os.PathSeparator) {
		return src.at(fields["type"].offset, fmt.Sprintf("type %q is not the name of a plugin", plugin))
	}
	ipam, ok := fields["ipam"]
	if !ok || bytes.Equal(ipam.raw, []byte("null")) {
		return nil
	}
	_, err = src.object(ipam.offset, ipam.raw)
	return err
}

// addPluginFiles adds the plugins in dir/*.conf, in lexical order.
func addPluginFiles(list *libcni.NetworkConfigList, dir string) error {
	files, err := libcni.ConfFiles(dir, []string{".conf"})
	if err != nil {
		return err
	}
	slices.Sort(files)
	for _, file := range files {
		data, err := readConfig(file)
		if err != nil {
			return err
		}
		src := source{file: file, data: data}
		fields, err := src.object(0, data)
		if err != nil {
			return err
		}
		if err := src.checkPlugin(0, fields); err != nil {
			return err
		}
		plugin, err := libcni.NetworkPluginConfFromBytes(data)
		if err != nil {
			return src.wrap(err)
		}
		list.Plugins = append(list.Plugins, plugin)
	}
	return nil
}

// inline returns list with all its plugins in its bytes, as one conflist: what a
// record holds must not depend on files that may change.
func inline(list *libcni.NetworkConfigList) (*libcni.NetworkConfigList, error) {
	whole := struct {
		CNIVersion             string            `json:"cniVersion"`
		Name                   string            `json:"name"`
		DisableCheck           bool              `json:"disableCheck,omitempty"`
		DisableGC              bool              `json:"disableGC,omitempty"`
		LoadOnlyInlinedPlugins bool              `json:"loadOnlyInlinedPlugins"`
		Plugins                []json.RawMessage `json:"plugins"`
	}{CNIVersion: list.CNIVersion, Name: list.Name, DisableCheck: list.DisableCheck, DisableGC: list.DisableGC, LoadOnlyInlinedPlugins: true}
	for _, plugin := range list.Plugins {
		whole.Plugins = append(whole.Plugins, plugin.Bytes)
	}
	data, err := json.Marshal(whole)
	if err != nil {
		return nil, fmt.Errorf("encode network: %w", err)
	}
	return libcni.NetworkConfFromBytes(data)
}

// parseDefault reads the embedded default network's conflist.
func parseDefault(data []byte) (*network, error) {
	list, err := parseBytes("default.conflist", data)
	if err != nil {
		return nil, err
	}
	return finish("", list)
}
