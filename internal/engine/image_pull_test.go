package engine

import (
	"encoding/base64"
	"encoding/json"
	"net/http"
	"strings"
	"testing"

	"github.com/mascri/mascri/internal/pod"
)

// Whoever refuses a pull may repeat the request that he was sent.
func TestPullErrorsHoldNoSecret(t *testing.T) {
	auth := pod.RegistryAuth{Username: "somebody", Password: "s3cret~~~"} // with both of base64's odd digits, and padding
	header, err := authHeader(auth)
	if err != nil {
		t.Fatal(err)
	}
	config, err := base64.URLEncoding.DecodeString(header)
	if err != nil {
		t.Fatal(err)
	}
	var leaks []string
	for _, text := range []string{"somebody:s3cret~~~", string(config)} {
		for _, encoding := range []*base64.Encoding{base64.StdEncoding, base64.URLEncoding} {
			leaks = append(leaks, encoding.EncodeToString([]byte(text)), encoding.WithPadding(base64.NoPadding).EncodeToString([]byte(text)))
		}
	}
	refused := func(auth pod.RegistryAuth, leak string) error {
		e := serve(t, func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Type", "application/json")
			w.WriteHeader(http.StatusInternalServerError)
			message, _ := json.Marshal(map[string]string{"message": "bad request: Authorization: Basic " + leak + " is refused"})
			w.Write(message)
		})
		return e.PullImage(t.Context(), "registry.local/a:b", auth, func() {})
	}
	for _, leak := range append(leaks, auth.Password) {
		err := refused(auth, leak)
		if err == nil || strings.Contains(err.Error(), strings.TrimRight(leak, "=")) || !strings.Contains(err.Error(), "is refused") {
			t.Errorf("the answer held %q: %v", leak, err)
		}
	}
	const harmless = "Og or Og==" // of no user and no password
	if err := refused(pod.RegistryAuth{IdentityToken: "t0ken"}, harmless); err == nil || !strings.Contains(err.Error(), harmless) {
		t.Errorf("without a password: %v", err)
	}
}
