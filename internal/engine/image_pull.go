package engine

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"github.com/containerd/errdefs"
	"github.com/moby/moby/api/types/registry"
	"github.com/moby/moby/client"

	"github.com/mascri/mascri/internal/pod"
)

// PullImage pulls the image that ref stands for, of the form that pod.PullName returns,
// for the engine's own platform. It calls progress whenever the engine tells of some, and
// stops when ctx ends. The registry's refusal is errdefs.ErrNotFound, ErrUnauthenticated,
// ErrPermissionDenied or ErrResourceExhausted where the engine tells it apart; engines
// before 23 often don't. No error holds one of auth's secrets.
func (e *Engine) PullImage(ctx context.Context, ref string, auth pod.RegistryAuth, progress func()) error {
	c, err := e.connection(ctx)
	if err != nil {
		return err
	}
	what := fmt.Sprintf("pull image %q", ref)
	header, err := authHeader(auth)
	if err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	answer, err := c.api.ImagePull(ctx, ref, client.ImagePullOptions{RegistryAuth: header})
	if err != nil {
		return e.pullFailed(what, err, auth)
	}
	for message, err := range answer.JSONMessages(ctx) {
		if err != nil {
			return e.pullFailed(what, err, auth)
		}
		// The status was sent before: a failure on the way stands in here.
		if message.Error != nil {
			return e.pullFailed(what, message.Error, auth)
		}
		progress()
	}
	// The sequence ends alike where the engine was through and where ctx ended.
	if ctx.Err() != nil {
		return e.failed(what, ctx.Err())
	}
	return nil
}

// pullFailed is failed for what a registry, or somebody between, may have had a hand in:
// an answer can repeat what it was asked with.
func (e *Engine) pullFailed(what string, err error, auth pod.RegistryAuth) error {
	err = e.failed(what, err)
	text := err.Error()
	for _, secret := range onTheWay(auth) {
		text = strings.ReplaceAll(text, secret, "***")
	}
	if text == err.Error() {
		return err
	}
	for _, kind := range kinds {
		if errors.Is(err, kind) {
			return kind.WithMessage(text)
		}
	}
	return errdefs.ErrInternal.WithMessage(text)
}

// onTheWay returns the secrets as they are, and as HTTP carries them: in the header that the
// engine is sent, and in the one that a registry is.
func onTheWay(auth pod.RegistryAuth) []string {
	secrets := auth.Secrets()
	var texts [][]byte
	if text, err := authText(auth); err == nil && len(secrets) > 0 {
		texts = append(texts, text)
	}
	if auth.Password != "" {
		texts = append(texts, []byte(auth.Username+":"+auth.Password))
	}
	for _, text := range texts {
		for _, encoding := range []*base64.Encoding{base64.StdEncoding, base64.URLEncoding, base64.RawStdEncoding, base64.RawURLEncoding} {
			secrets = append(secrets, encoding.EncodeToString(text))
		}
	}
	return secrets
}

// authHeader is "" for no credentials, which lets the engine use none.
func authHeader(auth pod.RegistryAuth) (string, error) {
	if auth == (pod.RegistryAuth{}) {
		return "", nil
	}
	text, err := authText(auth)
	return base64.URLEncoding.EncodeToString(text), err
}

func authText(auth pod.RegistryAuth) ([]byte, error) {
	return json.Marshal(registry.AuthConfig{
		Username: auth.Username, Password: auth.Password, IdentityToken: auth.IdentityToken, RegistryToken: auth.RegistryToken,
	})
}
