package install

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"

	"golang.org/x/sys/unix"

	"github.com/mascri/mascri/internal/durable"
)

// manifestVersion is the form of the manifest that this build writes and reads.
const manifestVersion = 1

// manifest is what install made, or was about to.
type manifest struct {
	Version int `json:"version"`
	// Pending are paths that were changed, and whose effect was not seen to yet.
	Pending []string `json:"pending,omitempty"`
	Dirs    []string `json:"dirs,omitempty"` // that were made, in this order
	Files   []entry  `json:"files,omitempty"`
}

// entry is a file in the manifest.
type entry struct {
	Path string `json:"path"`
	// Ours are the digests of what install wrote there: the one before, and the last one.
	Ours []string `json:"ours"`
	// Backup is where what was there before is kept: "" where nothing was. It is not there
	// yet where install was killed before that.
	Backup string `json:"backup,omitempty"`
	// Merged tells that it is the engine's configuration, which others write, too; Before is
	// the former value of its live-restore, "" for none.
	Merged bool   `json:"merged,omitempty"`
	Before string `json:"before,omitempty"`
}

func (o Options) manifestPath() string { return filepath.Join(o.StateDir, "install.json") }

// Lock keeps a second install or uninstall out until the file that it returns is closed.
func Lock(o Options) (*os.File, error) {
	if err := o.check(); err != nil {
		return nil, err
	}
	if err := os.MkdirAll(o.place(o.StateDir), 0o700); err != nil {
		return nil, err
	}
	f, err := os.Open(o.place(o.StateDir))
	if err != nil {
		return nil, err
	}
	err = durable.Lock(f)
	if errors.Is(err, unix.EWOULDBLOCK) {
		err = errors.New("another mascri install or uninstall is under way; wait for it to end")
	}
	if err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}

// loadManifest returns an empty one where there is none.
func (o Options) loadManifest() (manifest, error) {
	path := o.manifestPath()
	text, err := os.ReadFile(o.place(path))
	if os.IsNotExist(err) {
		return manifest{Version: manifestVersion}, nil
	}
	if err != nil {
		return manifest{}, err
	}
	var m manifest
	err = durable.Unmarshal(text, manifestVersion, &m)
	if errors.Is(err, durable.ErrNewer) {
		return manifest{}, fmt.Errorf("%s: %w", path, err)
	}
	if err != nil {
		return manifest{}, fmt.Errorf("%s: %w; it names what was installed: put it back from a backup, or remove those files by hand and then it", path, err)
	}
	m.Version = manifestVersion // which it has when it is written again
	return m, nil
}

func (o Options) saveManifest(m manifest) error {
	text, err := json.MarshalIndent(m, "", "  ")
	if err != nil {
		return err
	}
	return durable.WriteFile(o.place(o.manifestPath()), append(text, '\n'))
}

func (m *manifest) entry(path string) (entry, bool) {
	i := slices.IndexFunc(m.Files, func(e entry) bool { return e.Path == path })
	if i < 0 {
		return entry{}, false
	}
	return m.Files[i], true
}

// put adds an entry, or replaces that of the same path.
func (m *manifest) put(e entry) {
	if i := slices.IndexFunc(m.Files, func(old entry) bool { return old.Path == e.Path }); i >= 0 {
		m.Files[i] = e
		return
	}
	m.Files = append(m.Files, e)
}

// digest tells files and links by what they hold.
func (f file) digest() string {
	if f.link != "" {
		return "link:" + f.link
	}
	return digestOf(f.data)
}

func digestOf(data []byte) string {
	sum := sha256.Sum256(data)
	return "sha256:" + hex.EncodeToString(sum[:])
}

// found is the digest of what is at a path, "" for nothing.
func (o Options) found(path string) (string, error) {
	place := o.place(path)
	stat, err := os.Lstat(place)
	if os.IsNotExist(err) {
		return "", nil
	}
	if err != nil {
		return "", err
	}
	switch {
	case stat.Mode().IsRegular():
		data, err := os.ReadFile(place)
		return digestOf(data), err
	case stat.Mode().Type() == os.ModeSymlink:
		target, err := os.Readlink(place)
		return "link:" + target, err
	}
	return "", fmt.Errorf("%s is no file; move it away first", path)
}
