package cri

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"net/url"
	"strings"
	"time"

	cri "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/mascri/mascri/internal/pod"
)

// pullPatience is how long a pull may go on without any progress. It has to cover the
// writing of a big layer's last part on a slow disk, of which the engine says nothing.
const pullPatience = 5 * time.Minute

// PullImage pulls an image, and ends with the request or once there has been no progress
// for pullPatience. Requests at the same time for the same by the same credentials share
// one pull. The sandbox's config does not change what is pulled.
func (s *Server) PullImage(ctx context.Context, req *cri.PullImageRequest) (*cri.PullImageResponse, error) {
	if err := s.validateImageSpec("image", req.GetImage()); err != nil {
		return nil, err
	}
	ref, host, err := pod.PullName(req.GetImage().GetImage())
	if err != nil {
		return nil, fmt.Errorf("image.image: %w", err)
	}
	auth, err := registryAuth(req.GetAuth(), host)
	if err != nil {
		return nil, err
	}
	// The flight has no id of its own to return, so that none is kept for later requests:
	// the image could be another one by then.
	_, err = s.pulls.do(endless{ctx}, ref+" "+auth.Key(), &cri.PullImageRequest{}, func(ctx context.Context) (string, error) {
		return "", s.pull(ctx, ref, auth)
	})
	if err != nil {
		return nil, err
	}
	image, err := s.opts.Images.Image(ctx, ref)
	if err != nil {
		return nil, err
	}
	return &cri.PullImageResponse{ImageRef: image.ID}, nil
}

// endless hides the deadline: that of the first request must not end the pull for those
// who joined it. Each still ends its own waiting.
type endless struct{ context.Context }

// Deadline implements context.Context.
func (endless) Deadline() (time.Time, bool) { return time.Time{}, false }

var errStalled = fmt.Errorf("no progress for %v; is the registry or the way to it overloaded? %w", pullPatience, context.DeadlineExceeded)

func (s *Server) pull(ctx context.Context, ref string, auth pod.RegistryAuth) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	watchdog := time.AfterFunc(pullPatience, func() { cancel(errStalled) })
	defer watchdog.Stop()
	err := s.opts.Images.PullImage(ctx, ref, auth, func() { watchdog.Reset(pullPatience) })
	if err != nil && errors.Is(context.Cause(ctx), errStalled) {
		return fmt.Errorf("pull image %q: %w", ref, errStalled)
	}
	return err
}

// registryAuth returns the credentials for host, a registry's name in an image reference.
// Those that are for another server are not shown to it. No error holds a secret.
func registryAuth(auth *cri.AuthConfig, host string) (pod.RegistryAuth, error) {
	if server := auth.GetServerAddress(); server != "" {
		name, err := serverHost(server)
		if err != nil {
			return pod.RegistryAuth{}, err
		}
		if name != host {
			return pod.RegistryAuth{}, nil
		}
	}
	result := pod.RegistryAuth{
		Username: auth.GetUsername(), Password: auth.GetPassword(),
		IdentityToken: auth.GetIdentityToken(), RegistryToken: auth.GetRegistryToken(),
	}
	if result.Username != "" || result.IdentityToken != "" || result.RegistryToken != "" || auth.GetAuth() == "" {
		return result, nil
	}
	text, err := base64.StdEncoding.DecodeString(auth.GetAuth())
	if err != nil {
		return pod.RegistryAuth{}, invalid("auth.auth", "it is not base64")
	}
	username, password, ok := strings.Cut(string(text), ":")
	if !ok {
		return pod.RegistryAuth{}, invalid("auth.auth", "it does not decode to user:password")
	}
	// Some clients pad what they encode.
	result.Username, result.Password = username, strings.TrimRight(password, "\x00")
	return result, nil
}

// serverHost returns the host that server, such as https://index.docker.io/v1/, is called
// in image references.
func serverHost(server string) (string, error) {
	if !strings.Contains(server, "://") {
		server = "https://" + server
	}
	u, err := url.Parse(server)
	if err != nil || u.Host == "" {
		return "", invalid("auth.server_address", "it is no host or URL")
	}
	switch u.Host {
	case "index.docker.io", "registry-1.docker.io":
		return "docker.io", nil
	}
	return u.Host, nil
}
