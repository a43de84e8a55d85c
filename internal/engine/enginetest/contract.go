package enginetest

import (
	"context"
	"io"
	"net/netip"
	"testing"
	"time"

	cri "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/mascri/mascri/internal/pod"
	"github.com/mascri/mascri/test/registry"
)

// Engine is engine.Engine's method set.
type Engine interface {
	Ping(ctx context.Context) error
	Facts(ctx context.Context) (pod.EngineFacts, error)
	Pools(ctx context.Context) ([]netip.Prefix, error)
	EnsureImage(ctx context.Context, ref string, archive func() (io.ReadCloser, error)) (string, error)
	CreateSandbox(ctx context.Context, spec pod.SandboxSpec) (string, error)
	Start(ctx context.Context, id string) error
	Kill(ctx context.Context, idOrName string) error
	Remove(ctx context.Context, idOrName string) error
	Inspect(ctx context.Context, idOrName string) (pod.Sandbox, error)
	Look(ctx context.Context, idOrName string) (pod.Item, error)
	IDs(ctx context.Context) ([]string, error)
	Hints(ctx context.Context, emit func(pod.Hint)) error
	CreateContainer(ctx context.Context, spec pod.ContainerSpec) (string, error)
	InspectContainer(ctx context.Context, idOrName string) (pod.Container, error)
	Stop(ctx context.Context, idOrName string, grace time.Duration) error
	UpdateContainer(ctx context.Context, id string, resources *cri.LinuxContainerResources) error
	Images(ctx context.Context) ([]pod.Image, error)
	Image(ctx context.Context, name string) (pod.Image, error)
	PullImage(ctx context.Context, ref string, auth pod.RegistryAuth, progress func()) error
	RemoveImage(ctx context.Context, id string) error
	ImageFilesystem(ctx context.Context) (pod.Filesystem, error)
}

// Line is what can befall the way to an engine.
type Line interface {
	// LoseAnswer makes the next call of an Engine method fail although the engine did
	// what it asks.
	LoseAnswer(method string)
	// Down takes the engine away and Up brings it back.
	Down()
	Up()
}

// Subject is an engine without containers, as the contract looks at it.
type Subject struct {
	Instance string
	Engine   Engine // Instance's view
	As       func(instance string) Engine
	User     User
	Line     Line
	Image    string // id of an image of testdata/pause to make sandboxes from
	// UserImage is the id of one that is alike, but for its user, app:staff.
	UserImage string
	Files     pod.Files
	// Processes is set where the engine's pids are those of processes in /proc.
	Processes bool
	// Registry returns a new registry that the engine can pull from.
	Registry func(t *testing.T, login registry.Login) Registry
	// SystemCAOnly is set for an engine that trusts a registry's token service by the
	// system's certificate authorities alone.
	SystemCAOnly bool
}

// patience is how long an engine may take to tell or do something.
const patience = 10 * time.Second

// Contract tests what engine.Engine promises. subject is called for each of its tests.
func Contract(t *testing.T, subject func(t *testing.T) Subject) {
	for _, test := range []struct {
		name string
		run  func(t *testing.T, s Subject)
	}{
		{"a created sandbox does not run", createdDoesNotRun},
		{"a name is given once", nameGivenOnce},
		{"a started sandbox runs", startedRuns},
		{"a sandbox that ends by itself tells how", endsByItself},
		{"kill ends what runs and accepts what does not", killIsIdempotent},
		{"a sandbox started again lives anew", startedAgain},
		{"remove takes everything and accepts nothing", removeIsIdempotent},
		{"removals at the same time both succeed", removedTwiceAtOnce},
		{"what is missing is NotFound", missingIsNotFound},
		{"what is invalid is refused by name", invalidIsRefused},
		{"the list is this instance's", listIsOwn},
		{"the containers of others are left alone", foreignLeftAlone},
		{"hints tell of each change", hintsTellChanges},
		{"hints tell of nobody else", hintsAreOwn},
		{"hints end with their context", hintsEndWithContext},
		{"a lost answer is Unavailable and can be asked again", lostAnswers},
		{"an engine that is gone is Unavailable until it is back", gone},
		{"a context that ended says so", endedContext},
		{"a missing image is loaded", imageLoaded},
		{"facts and pools are told", factsTold},
		{"sandboxes are independent", independent},
	} {
		t.Run(test.name, func(t *testing.T) { test.run(t, subject(t)) })
	}
}

// spec returns a sandbox of instance whose name is of its own.
func (s Subject) spec(name, instance string) pod.SandboxSpec {
	return pod.SandboxSpec{
		Name:     "k8s_POD_" + name,
		Instance: instance,
		Image:    s.Image,
		Files:    s.Files,
		Config: &cri.PodSandboxConfig{
			Metadata:    &cri.PodSandboxMetadata{Name: name, Namespace: "contract", Uid: name + "-uid", Attempt: 1},
			Hostname:    "host-" + name,
			Labels:      map[string]string{"app": name},
			Annotations: map[string]string{"note": "ä \"quoted\"\n"},
		},
	}
}

func (s Subject) create(t *testing.T, name string) string {
	t.Helper()
	id, err := s.Engine.CreateSandbox(t.Context(), s.spec(name, s.Instance))
	if err != nil {
		t.Fatalf("create %s: %v", name, err)
	}
	return id
}

func (s Subject) run(t *testing.T, name string) string {
	t.Helper()
	id := s.create(t, name)
	if err := s.Engine.Start(t.Context(), id); err != nil {
		t.Fatalf("start %s: %v", name, err)
	}
	return id
}

func (s Subject) inspect(t *testing.T, id string) pod.Sandbox {
	t.Helper()
	sandbox, err := s.Engine.Inspect(t.Context(), id)
	if err != nil {
		t.Fatalf("inspect %s: %v", id, err)
	}
	return sandbox
}
