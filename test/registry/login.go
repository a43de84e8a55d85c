package registry

import (
	"encoding/json"
	"net/http"
)

// tokenPath is where the registry with a token service issues tokens.
const tokenPath = "/token"

// Login is what a registry asks of its clients. The zero value asks for nothing.
type Login struct {
	// Username and Password are asked for in a basic authorization, by the registry
	// itself or, with a Token, by its token service.
	Username, Password string
	// Token is what the registry takes as the bearer of an authorization, and what its
	// token service gives for the user's password or for IdentityToken.
	Token         string
	IdentityToken string
}

func (l Login) admits(req *http.Request) bool {
	switch {
	case l.Token != "":
		return req.Header.Get("Authorization") == "Bearer "+l.Token
	case l.Username != "":
		return l.knows(req)
	}
	return true
}

func (l Login) knows(req *http.Request) bool {
	username, password, ok := req.BasicAuth()
	return ok && username == l.Username && password == l.Password
}

func (l Login) challenge(w http.ResponseWriter, host string) {
	how := `Basic realm="test"`
	if l.Token != "" {
		how = `Bearer realm="https://` + host + tokenPath + `",service="test"`
	}
	w.Header().Set("Www-Authenticate", how)
	w.Header().Set("Docker-Distribution-Api-Version", "registry/2.0")
}

// issue is the token service: GET with a basic authorization, or POST as in OAuth 2 with
// a refresh token, see https://distribution.github.io/distribution/spec/auth/.
func (l Login) issue(w http.ResponseWriter, req *http.Request) {
	ok := l.knows(req)
	if req.Method == http.MethodPost {
		ok = l.IdentityToken != "" && req.FormValue("refresh_token") == l.IdentityToken
	}
	if !ok {
		// Some services repeat what they were asked with, which engines put into errors.
		_, password, _ := req.BasicAuth()
		w.WriteHeader(http.StatusUnauthorized)
		_ = json.NewEncoder(w).Encode(map[string]string{"details": "refused: " + password + req.FormValue("refresh_token")}) // a client that is gone misses nothing
		return
	}
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(map[string]string{"token": l.Token, "access_token": l.Token}) // a client that is gone misses nothing
}
