package cri

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"

	"google.golang.org/protobuf/encoding/protojson"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/mascri/mascri/internal/durable"
)

// updates are what was changed of sandboxes and containers after their creation and the
// engine keeps no account of: a file each, durable. Each id's is changed by one goroutine
// at a time.
type updates struct {
	dir string

	mu   sync.Mutex // guards the following field
	byID map[string]update
}

// update is of a container, or of a sandbox, which alone has an overhead.
type update struct {
	resources *cri.LinuxContainerResources
	overhead  *cri.LinuxContainerResources
}

// UpdateVersion is the form of an update's file that this build writes and reads.
const UpdateVersion = 1

// updateFile is the JSON form.
type updateFile struct {
	Version   int             `json:"version"`
	Resources json.RawMessage `json:"resources,omitempty"`
	Overhead  json.RawMessage `json:"overhead,omitempty"`
}

func newUpdates(dir string) *updates { return &updates{dir: dir, byID: map[string]update{}} }

// of returns the zero update where nothing was changed.
func (u *updates) of(id string) update {
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.byID[id]
}

func (u *updates) put(id string, value update) error {
	text, err := value.encode()
	if err == nil {
		err = os.MkdirAll(u.dir, 0o700)
	}
	if err == nil {
		err = durable.WriteFile(u.file(id), text)
	}
	if err != nil {
		return fmt.Errorf("note the change: %w", err)
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	u.byID[id] = value
	return nil
}

func (u *updates) forget(id string) error {
	u.mu.Lock()
	_, known := u.byID[id]
	delete(u.byID, id)
	u.mu.Unlock()
	if !known {
		return nil
	}
	return durable.Remove(u.file(id))
}

func (u *updates) file(id string) string { return filepath.Join(u.dir, id+".json") }

// load reads what an earlier life left, and deletes what is of none that alive knows. A
// file that can't be read is left, and reported.
func (u *updates) load(alive func(id string) bool) error {
	entries, err := os.ReadDir(u.dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	errs := []error{err}
	for _, entry := range entries {
		id, ok := strings.CutSuffix(entry.Name(), ".json")
		if !ok || !fullID.MatchString(id) {
			continue
		}
		if !alive(id) {
			errs = append(errs, durable.Remove(u.file(id)))
			continue
		}
		value, err := readUpdate(u.file(id))
		if err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", u.file(id), err))
			continue
		}
		u.mu.Lock()
		u.byID[id] = value
		u.mu.Unlock()
	}
	return errors.Join(errs...)
}

func (v update) encode() ([]byte, error) {
	file := updateFile{Version: UpdateVersion}
	for _, part := range []struct {
		from *cri.LinuxContainerResources
		to   *json.RawMessage
	}{{v.resources, &file.Resources}, {v.overhead, &file.Overhead}} {
		if part.from == nil {
			continue
		}
		text, err := protojson.Marshal(part.from)
		if err != nil {
			return nil, err
		}
		*part.to = text
	}
	return json.Marshal(file)
}

func readUpdate(path string) (value update, err error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return value, err
	}
	var file updateFile
	if err := durable.Unmarshal(text, UpdateVersion, &file); err != nil {
		return value, err
	}
	for _, part := range []struct {
		from json.RawMessage
		to   **cri.LinuxContainerResources
	}{{file.Resources, &value.resources}, {file.Overhead, &value.overhead}} {
		if part.from == nil {
			continue
		}
		*part.to = &cri.LinuxContainerResources{}
		if err := (protojson.UnmarshalOptions{DiscardUnknown: true}).Unmarshal(part.from, *part.to); err != nil {
			return value, err
		}
	}
	return value, nil
}
