package e2e

import (
	"encoding/base64"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	cri "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/mascri/mascri/internal/engine/enginetest"
	"github.com/mascri/mascri/test/registry"
)

// Nothing that the daemon writes for others than its client has a secret in it: not its log,
// at debug level, nor labels, traces, metrics, its state, or a support bundle.
func TestSecretsAreTheClients(t *testing.T) {
	got := collectSpans(t)
	n := newNode(t, enginetest.Engine28, userConf(), "--tracing-endpoint="+got.address, "--tracing-sampling-per-million=1000000", "--metrics-address=127.0.0.1:0")
	b := newBench(t, n)

	// Each secret has a name of its own, to tell which one leaks.
	planted := func(what string) string { return "pl4nted-" + what }
	private := registry.Start(t, registry.Login{Username: "somebody", Password: planted("password")})
	private.Push(t, "app", "1", registry.Image{})
	tokens := registry.Start(t, registry.Login{Token: planted("bearer"), IdentityToken: planted("identity")})
	tokens.Push(t, "app", "1", registry.Image{})
	for _, auth := range []*cri.AuthConfig{
		{Username: "somebody", Password: planted("wrong")},
		{Auth: base64.StdEncoding.EncodeToString([]byte("somebody:" + planted("wrong-auth")))},
		{Auth: planted("no-base64!")},
		{Username: "somebody", Password: planted("password"), ServerAddress: "https://somebody:" + planted("address") + "@" + private.Host},
		{IdentityToken: planted("identity")}, {RegistryToken: planted("bearer")}, {RegistryToken: planted("wrong-bearer")},
		{Username: "somebody", Password: planted("password")},
	} {
		for _, ref := range []string{private.Ref("app", "1"), tokens.Ref("app", "1"), private.Host + "/nothing:1"} {
			_, _ = n.image.PullImage(t.Context(), &cri.PullImageRequest{Image: &cri.ImageSpec{Image: ref}, Auth: auth})
		}
	}
	for _, r := range []*registry.Registry{private, tokens} {
		if resp, err := n.image.ImageStatus(t.Context(), &cri.ImageStatusRequest{Image: &cri.ImageSpec{Image: r.Ref("app", "1")}}); err != nil || resp.GetImage() == nil {
			t.Errorf("nothing was pulled with a secret: this test shows nothing: %v", err)
		}
	}

	withEnv := func(name string) *cri.CreateContainerRequest {
		req := b.request(name, "")
		req.Config.Envs = []*cri.KeyValue{{Key: "PASSWORD", Value: []byte(planted("env"))}}
		return req
	}
	c := b.runContainer(t, withEnv("box"))
	if text := c.proc(t, "environ"); !strings.Contains(text, planted("env")) {
		t.Errorf("the environment is %q", text)
	}
	fails := func(what string, change func(*cri.CreateContainerRequest)) {
		req := withEnv(what)
		change(req)
		if resp, err := b.cri.CreateContainer(t.Context(), req); err == nil {
			if _, err := b.cri.StartContainer(t.Context(), &cri.StartContainerRequest{ContainerId: resp.GetContainerId()}); err == nil {
				t.Errorf("%s runs", what)
			}
		}
	}
	fails("again", func(req *cri.CreateContainerRequest) { req.Config.Metadata.Name = "box" })
	fails("env-key", func(req *cri.CreateContainerRequest) {
		req.Config.Envs = append(req.Config.Envs, &cri.KeyValue{Key: "TOKEN=" + planted("key"), Value: []byte("x")})
	})
	fails("env-nul", func(req *cri.CreateContainerRequest) {
		req.Config.Envs = append(req.Config.Envs, &cri.KeyValue{Key: "TOKEN", Value: []byte(planted("nul") + "\x00")})
	})
	fails("command", func(req *cri.CreateContainerRequest) { req.Config.Command = []string{"/bin/nothing"} })

	unused, err := b.cri.Exec(t.Context(), &cri.ExecRequest{ContainerId: c.id, Cmd: []string{"true"}, Stdout: true})
	if err != nil {
		t.Fatal(err)
	}
	token := filepath.Base(unused.GetUrl()) // one that was used is worth nothing
	for _, command := range [][]string{
		{"echo", planted("argument")}, {"/bin/nothing", planted("argument")}, {"echo", planted("argument") + "\x00"}, {"sleep", "100", planted("argument")},
	} {
		_, _ = b.cri.ExecSync(t.Context(), &cri.ExecSyncRequest{ContainerId: c.id, Cmd: command, Timeout: 1})
		resp, err := b.cri.Exec(t.Context(), &cri.ExecRequest{ContainerId: c.id, Cmd: command, Stdout: true, Stdin: true})
		if err != nil {
			continue
		}
		stream := dialWebSocket(t, resp.GetUrl())
		stream.send(t, wsStdin, planted("input"))
		_ = stream.SetReadDeadline(time.Now().Add(2 * time.Second))
		_, _ = io.Copy(io.Discard, stream)
		stream.Close()
	}
	n.docker(t, "kill", c.id)
	c.ended(t)

	outputs := map[string]string{"labels": n.docker(t, "inspect", "-f", "{{json .Config.Labels}}", c.id, b.pod.id), "metrics": n.metricsText(t)}
	n.removeContainer(t, c.id)
	bundle := filepath.Join(shortDir(t), "bundle.tar.gz")
	if out, ok := n.mascri(t, "support-bundle", "--file", bundle, "--log-file", n.logFile); !ok {
		t.Errorf("support-bundle: %s", out)
	}
	outputs["bundle"] = run(t, "tar", "-xzOf", bundle)
	if err := filepath.WalkDir(n.state, func(path string, entry os.DirEntry, err error) error {
		if err == nil && entry.Type().IsRegular() {
			text, err := os.ReadFile(path)
			outputs["state "+entry.Name()] = string(text)
			return err
		}
		return err
	}); err != nil {
		t.Error(err)
	}
	b.removePod(t, b.pod.id)
	n.terminate(t) // which sends all spans
	log, err := os.ReadFile(n.logFile)
	if err != nil {
		t.Fatal(err)
	}
	outputs["log"] = string(log)
	got.mu.Lock()
	defer got.mu.Unlock()
	outputs["spans"] = fmt.Sprint(got.all)
	for what, least := range map[string]int{"labels": 500, "metrics": 5000, "bundle": 5000, "log": 10000, "spans": 5000} {
		if len(outputs[what]) < least {
			t.Errorf("%s are %d bytes: this test shows nothing", what, len(outputs[what]))
		}
	}
	for what, text := range outputs {
		if strings.Contains(text, token) {
			t.Errorf("%s has the token of a stream that somebody may still use", what)
		}
		for i := strings.Index(text, "pl4nted-"); i >= 0; i = -1 {
			t.Errorf("%s: ...%s", what, text[max(0, i-200):min(len(text), i+40)])
		}
		for _, secret := range []string{"somebody:" + planted("password"), "somebody:" + planted("wrong-auth")} {
			if strings.Contains(text, base64.StdEncoding.EncodeToString([]byte(secret))) {
				t.Errorf("%s has %s, encoded", what, secret)
			}
		}
	}
}
