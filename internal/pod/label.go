package pod

import (
	"encoding/json"
	"errors"
	"fmt"

	"google.golang.org/protobuf/encoding/protojson"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// LabelKey is the one label that MasCRI decodes. The version is in the key: a
// later form gets another key, and what has no key that this build knows is not
// ours to touch.
const LabelKey = "io.mascri.v1"

// kindSandbox marks the label of a sandbox, as against that of a container.
const kindSandbox = "sandbox"

// ErrForeign tells of a container that is not a sandbox made by any MasCRI that
// this build understands. Such a container is never changed.
var ErrForeign = errors.New("not a sandbox of MasCRI")

// Decoded is what a sandbox's label holds: all that is fixed at its creation.
type Decoded struct {
	Instance       string
	Config         *cri.PodSandboxConfig
	RuntimeHandler string
}

// label is the JSON form.
type label struct {
	Kind           string          `json:"kind"`
	Instance       string          `json:"instance"`
	RuntimeHandler string          `json:"runtimeHandler,omitempty"`
	Config         json.RawMessage `json:"config"`
}

// Labels returns the engine labels of a sandbox: LabelKey, which is all that is
// ever read back, and the plain io.kubernetes.* ones as a courtesy to other tools.
func Labels(spec SandboxSpec) (map[string]string, error) {
	config, err := protojson.Marshal(spec.Config)
	if err != nil {
		return nil, fmt.Errorf("encode sandbox config: %w", err)
	}
	text, err := json.Marshal(label{Kind: kindSandbox, Instance: spec.Instance, RuntimeHandler: spec.RuntimeHandler, Config: config})
	if err != nil {
		return nil, fmt.Errorf("encode label %s: %w", LabelKey, err)
	}
	m := spec.Config.GetMetadata()
	return map[string]string{
		LabelKey:                       string(text),
		"io.kubernetes.pod.name":       m.GetName(),
		"io.kubernetes.pod.namespace":  m.GetNamespace(),
		"io.kubernetes.pod.uid":        m.GetUid(),
		"io.kubernetes.container.name": "POD",
	}, nil
}

// DecodeLabels reads a sandbox's labels. The error is ErrForeign where they are
// not those of a sandbox, or of a form that this build does not know.
func DecodeLabels(labels map[string]string) (Decoded, error) {
	text, ok := labels[LabelKey]
	if !ok {
		return Decoded{}, fmt.Errorf("label %s: missing: %w", LabelKey, ErrForeign)
	}
	var l label
	if err := json.Unmarshal([]byte(text), &l); err != nil {
		return Decoded{}, fmt.Errorf("label %s: %w: %w", LabelKey, err, ErrForeign)
	}
	if l.Kind != kindSandbox || l.Instance == "" {
		return Decoded{}, fmt.Errorf("label %s: kind %q of instance %q: %w", LabelKey, l.Kind, l.Instance, ErrForeign)
	}
	config := &cri.PodSandboxConfig{}
	// A later build may have stored fields that this one does not know.
	if err := (protojson.UnmarshalOptions{DiscardUnknown: true}).Unmarshal(l.Config, config); err != nil {
		return Decoded{}, fmt.Errorf("label %s: config: %w: %w", LabelKey, err, ErrForeign)
	}
	return Decoded{Instance: l.Instance, Config: config, RuntimeHandler: l.RuntimeHandler}, nil
}
