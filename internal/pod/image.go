package pod

import (
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/containerd/errdefs"
	"github.com/distribution/reference"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// Image is one image as the engine last told of it.
type Image struct {
	ID      string   // as the engine identifies it, sha256:...
	Tags    []string // such as busybox:1.36, in the engine's spelling
	Digests []string // such as busybox@sha256:..., in the engine's spelling
	// Size is in bytes, of all layers. With the containerd image store it counts what is
	// compressed, and in a list what is unpacked as well.
	Size   uint64
	Config ocispec.Image
}

// User is whom the image's processes run as where a container does not say: a uid, or
// else a name; neither where the image does not say either.
func (i Image) User() (uid *int64, name string) {
	name, _, _ = strings.Cut(i.Config.Config.User, ":")
	if n, err := strconv.ParseInt(name, 10, 64); err == nil {
		return &n, ""
	}
	return nil, name
}

// shortID is how many digits of an image's id docker images prints.
const shortID = 12

// Matches tells whether name, of the form that ImageName returns, is one of the image's:
// its id, a prefix of that which is not shorter than docker images prints it, a tag or a
// digest. A name without a tag means all tags.
func (i Image) Matches(name string) bool {
	if i.MatchesID(name) {
		return true
	}
	asked, err := reference.ParseNormalizedNamed(name)
	if err != nil {
		return false
	}
	return slices.ContainsFunc(slices.Concat(i.Tags, i.Digests), func(text string) bool {
		own, err := reference.ParseNormalizedNamed(text)
		return err == nil && (own.String() == asked.String() || reference.IsNameOnly(asked) && own.Name() == asked.Name())
	})
}

// MatchesID tells whether name is the image's id, or a prefix of it that is long enough.
func (i Image) MatchesID(name string) bool {
	id, digits := strings.TrimPrefix(i.ID, "sha256:"), strings.TrimPrefix(name, "sha256:")
	return len(digits) >= shortID && strings.HasPrefix(id, digits)
}

// ImageName checks what a client calls an image by, an id, a prefix of one or a
// reference, and returns how to ask the engine for it: a digest decides, whatever tag
// stands beside it. The error is errdefs.ErrInvalidArgument.
func ImageName(text string) (string, error) {
	parsed, err := reference.ParseAnyReference(text)
	if err != nil {
		return "", fmt.Errorf("%q names no image: %v: %w", text, err, errdefs.ErrInvalidArgument)
	}
	named, isNamed := parsed.(reference.Named)
	if digested, ok := parsed.(reference.Digested); ok && isNamed {
		return reference.TrimNamed(named).Name() + "@" + digested.Digest().String(), nil
	}
	return text, nil
}

// PullName returns the full reference that a client's text stands for, with a tag or a
// digest, such as docker.io/library/busybox:latest, and its registry's host, such as
// docker.io. The error is errdefs.ErrInvalidArgument.
func PullName(text string) (ref, host string, err error) {
	named, err := reference.ParseDockerRef(text)
	if err != nil {
		return "", "", fmt.Errorf("%q is no image reference such as docker.io/library/busybox:1.36: %v: %w", text, err, errdefs.ErrInvalidArgument)
	}
	return named.String(), reference.Domain(named), nil
}

// RegistryAuth is what a registry is shown. It prints without its secrets.
type RegistryAuth struct {
	Username      string
	Password      string
	IdentityToken string // exchanged by the registry's token service for a token
	RegistryToken string // shown to the registry as it is
}

// Secrets are those parts that nobody may read in an error or a log.
func (a RegistryAuth) Secrets() []string {
	return slices.DeleteFunc([]string{a.Password, a.IdentityToken, a.RegistryToken}, func(s string) bool { return s == "" })
}

// Key tells two credentials apart without revealing them.
func (a RegistryAuth) Key() string {
	type plain RegistryAuth           // without its String
	text, _ := json.Marshal(plain(a)) // strings can always be encoded
	return fmt.Sprintf("%x", sha256.Sum256(text))
}

// String implements fmt.Stringer.
func (a RegistryAuth) String() string { return fmt.Sprintf("credentials of %q", a.Username) }

// GoString implements fmt.GoStringer.
func (a RegistryAuth) GoString() string { return a.String() }

// Filesystem is where images are kept, and what they take up there.
type Filesystem struct {
	MountPoint string
	UsedBytes  uint64 // as allocated on the disk
	UsedInodes uint64
}
