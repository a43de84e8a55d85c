package pod

import (
	"encoding/json"
	"errors"
	"fmt"

	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// LabelKey is the one label that MasCRI decodes. The version is in the key: a
// later form gets another key, and what has no key that this build knows is not
// ours to touch.
const LabelKey = "io.mascri.v1"

// Kind says what a container of ours is for.
type Kind string

// The kinds of containers that MasCRI makes.
const (
	KindSandbox   Kind = "sandbox"
	KindContainer Kind = "container" // of a workload
	// KindProbe is a container that never runs: it shows what is in an image.
	KindProbe Kind = "probe"
)

// ErrForeign tells of a container that was not made by any MasCRI that this build
// understands, or is not of the kind asked for. Such a container is never changed.
var ErrForeign = errors.New("not ours")

// Decoded is what the label of a container of ours holds: all that is fixed at its
// creation.
type Decoded struct {
	Kind           Kind
	Instance       string
	Config         *cri.PodSandboxConfig // of KindSandbox
	RuntimeHandler string                // of KindSandbox
	Container      Fixed                 // of KindContainer
}

// label is the JSON form.
type label struct {
	Kind           Kind            `json:"kind"`
	Instance       string          `json:"instance"`
	RuntimeHandler string          `json:"runtimeHandler,omitempty"`
	Config         json.RawMessage `json:"config,omitempty"`
	Sandbox        string          `json:"sandbox,omitempty"` // that a workload container joins
	ImageName      string          `json:"imageName,omitempty"`
	ImageRef       string          `json:"imageRef,omitempty"`
	LogPath        string          `json:"logPath,omitempty"`
	UID            int64           `json:"uid,omitempty"`
	GID            int64           `json:"gid,omitempty"`
	Groups         []int64         `json:"groups,omitempty"`
}

// Labels returns the engine labels of a sandbox: LabelKey, which is all that is
// ever read back, and the plain io.kubernetes.* ones as a courtesy to other tools.
func Labels(spec SandboxSpec) (map[string]string, error) {
	l := label{Kind: KindSandbox, Instance: spec.Instance, RuntimeHandler: spec.RuntimeHandler}
	return encode(l, spec.Config, spec.Config.GetMetadata(), "POD")
}

// ContainerLabels is Labels for a workload container.
func ContainerLabels(spec ContainerSpec) (map[string]string, error) {
	l := label{
		Kind: KindContainer, Instance: spec.Instance, Sandbox: spec.SandboxID,
		ImageName: spec.ImageName, ImageRef: spec.ImageRef, LogPath: spec.LogPath,
		UID: spec.User.UID, GID: spec.User.GID, Groups: spec.User.Groups,
	}
	config := proto.CloneOf(spec.Config)
	config.Envs = nil
	return encode(l, config, spec.Sandbox.Config.GetMetadata(), spec.Config.GetMetadata().GetName())
}

// ProbeLabels are those of a container of KindProbe.
func ProbeLabels(instance string) (map[string]string, error) {
	text, err := json.Marshal(label{Kind: KindProbe, Instance: instance})
	if err != nil {
		return nil, fmt.Errorf("encode label %s: %w", LabelKey, err)
	}
	return map[string]string{LabelKey: string(text)}, nil
}

func encode(l label, config proto.Message, m *cri.PodSandboxMetadata, container string) (map[string]string, error) {
	var err error
	if l.Config, err = protojson.Marshal(config); err != nil {
		return nil, fmt.Errorf("encode %s config: %w", l.Kind, err)
	}
	text, err := json.Marshal(l)
	if err != nil {
		return nil, fmt.Errorf("encode label %s: %w", LabelKey, err)
	}
	return map[string]string{
		LabelKey:                       string(text),
		"io.kubernetes.pod.name":       m.GetName(),
		"io.kubernetes.pod.namespace":  m.GetNamespace(),
		"io.kubernetes.pod.uid":        m.GetUid(),
		"io.kubernetes.container.name": container,
	}, nil
}

// DecodeLabels reads the labels of a container of ours. The error is ErrForeign where
// they are of no MasCRI, or of a form that this build does not know.
func DecodeLabels(labels map[string]string) (Decoded, error) {
	text, ok := labels[LabelKey]
	if !ok {
		return Decoded{}, fmt.Errorf("label %s: missing: %w", LabelKey, ErrForeign)
	}
	var l label
	if err := json.Unmarshal([]byte(text), &l); err != nil {
		return Decoded{}, fmt.Errorf("label %s: %w: %w", LabelKey, err, ErrForeign)
	}
	if l.Instance == "" {
		return Decoded{}, fmt.Errorf("label %s: no instance: %w", LabelKey, ErrForeign)
	}
	d := Decoded{Kind: l.Kind, Instance: l.Instance}
	switch l.Kind {
	case KindProbe:
		return d, nil
	case KindSandbox:
		d.RuntimeHandler, d.Config = l.RuntimeHandler, &cri.PodSandboxConfig{}
		return d, l.decode(d.Config)
	case KindContainer:
		d.Container = Fixed{
			SandboxID: l.Sandbox, Config: &cri.ContainerConfig{},
			ImageName: l.ImageName, ImageRef: l.ImageRef, LogPath: l.LogPath,
			User: User{UID: l.UID, GID: l.GID, Groups: l.Groups},
		}
		return d, l.decode(d.Container.Config)
	}
	return Decoded{}, fmt.Errorf("label %s: kind %q: %w", LabelKey, l.Kind, ErrForeign)
}

// decode reads the config. A later build may have stored fields that this one does not
// know.
func (l label) decode(config proto.Message) error {
	if err := (protojson.UnmarshalOptions{DiscardUnknown: true}).Unmarshal(l.Config, config); err != nil {
		return fmt.Errorf("label %s: config: %w: %w", LabelKey, err, ErrForeign)
	}
	return nil
}
