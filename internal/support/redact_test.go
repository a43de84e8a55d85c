package support

import (
	"encoding/base64"
	"encoding/json"
	"strings"
	"testing"
)

// planted is in every secret below.
const planted = "pl4nted"

const pemKey = "-----BEGIN RSA PRIVATE KEY-----\nMIIEpl4ntedAAAAAAAAAAAA\nAAAApl4nted==\n-----END RSA PRIVATE KEY-----"

func TestSecretsAreRemoved(t *testing.T) {
	for name, text := range map[string]string{
		"an address":                   `msg="pull" image=https://user:pl4nted@registry.example.com/v2/`,
		"an address with @":            `proxy http://user:p@ss-pl4nted@proxy:3128/`,
		"a password with a comma":      `password=Tr0ub4dor,pl4nted next=1`,
		"a password with a semicolon":  `DB_PASSWORD=a;pl4nted`,
		"a token with an ampersand":    `token=&pl4nted`,
		"a quote in a password":        `msg="x" password="ab\"cd pl4nted"`,
		"a quote in an escaped one":    `{"msg": "password=\"ab\\\"cd pl4nted\"", cut`,
		"a line that was cut":          `password="ab pl4nted`,
		"a logged password":            `level=info msg=x password=pl4nted next=1`,
		"a quoted one":                 `db_password: "pl4nted with spaces"`,
		"one in single quotes":         `PASSWORD='pl4nted x'`,
		"one in escaped JSON":          `msg="config {\"password\":\"pl4nted\",\"a\":1}"`,
		"a header":                     `Authorization: Bearer pl4ntedpl4nted`,
		"a header of its own":          `sent "Basic cGw0bnRlZA==pl4nted" to it`,
		"a JWT":                        `got eyJhbGciOiJIUzI1NiJ9.pl4nted.pl4nted-x`,
		"a key":                        "log\n" + pemKey + "\nmore",
		"a key in one line":            strings.ReplaceAll(pemKey, "\n", `\n`),
		"a key without its end":        strings.TrimSuffix(pemKey, "-----END RSA PRIVATE KEY-----"),
		"a key without its begin":      strings.TrimPrefix(pemKey, "-----BEGIN RSA PRIVATE KEY-----\n"),
		"a flag":                       `run: etcd --auth-token pl4nted --x`,
		"a flag with =":                `run: etcd --auth-token=pl4nted --x`,
		"TOML":                         "api_key = 'pl4nted'\n",
		"a stream's address":           `GET http://127.0.0.1:4242/exec/pl4nted`,
		"JSON":                         `{"a": {"etcd_password": "pl4nted", "b": 1}}`,
		"JSON with numbers":            `{"token": 12, "inner": [{"clientSecret": {"x": "pl4nted"}}]}`,
		"JSON in JSON":                 `{"config": "{\"password\": \"pl4nted\"}"}`,
		"base64 of JSON":               `{"config": "` + base64.StdEncoding.EncodeToString([]byte(`{"password": "pl4nted"}`)) + `"}`,
		"annotations":                  `{"annotations": {"anything": "pl4nted"}}`,
		"an applied object":            `{"kubectl.kubernetes.io/last-applied-configuration": "pl4nted"}`,
		"an environment":               `{"envs": [{"name": "DB_PASSWORD", "value": "pl4nted"}], "env": ["DB_PASSWORD=pl4nted"]}`,
		"pairs":                        `{"args": [["K8S_POD_NAME", "web"], ["TOKEN", "pl4nted"]]}`,
		"arguments":                    `{"args": ["etcd", "--password", "pl4nted"]}`,
		"an address in JSON":           `{"proxy": "http://u:pl4nted@h"}`,
		"lines of JSON":                "{\"password\":\"pl4nted\"}\n{\"password\":\"pl4nted\"}\n",
		"a block of YAML":              "a: 1\nclient_secret: |\n  pl4nted\n\n  more pl4nted\nb: 2\n",
		"a folded block":               "- password: >-2\n      pl4nted\n    pl4nted\n  b: 2\n",
		"a value in further lines":     "password: one\n  pl4nted\nb: 2\n",
		"quotes in further lines":      "password: \"one\n  pl4nted\"\nb: 2\n",
		"a value on the next line":     "password:\n  pl4nted\nb: 2\n",
		"a list":                       "tokens:\n- pl4nted\n- pl4nted\nb: 2\n",
		"an object of YAML":            "credentials:\n  user: pl4nted\n  deeper:\n    x: pl4nted\nb: 2\n",
		"an environment in YAML":       "env:\n- name: DB_PASSWORD\n  value: |\n    pl4nted\n- name: B\n  value: b\n",
		"the same in one line":         "- name: \"DB_PASSWORD\"\n  value: pl4nted\n",
		"a text in TOML":               "api_key = \"\"\"\npl4nted\n  pl4nted\"\"\"\nb = 2\n",
		"one in single quotes of TOML": "token = '''pl4nted\npl4nted\n'''\nb = 2\n",
		"windows' lines":               "password: |\r\n  pl4nted\r\nb: 2\r\n",
		"a pull secret":                "data:\n  .dockerconfigjson: pl4nted\n",
		"damaged JSON":                 `{"password": "pl4nted", `,
	} {
		got := string(Redact([]byte(text)))
		if strings.Contains(got, planted) {
			t.Errorf("%s: %s", name, got)
		}
		if !strings.Contains(got, removed) {
			t.Errorf("%s: it is not said that something was removed: %s", name, got)
		}
		if json.Valid([]byte(text)) && !json.Valid([]byte(got)) {
			t.Errorf("%s: no JSON any more: %s", name, got)
		}
	}
}

func TestWhatIsNoSecretStays(t *testing.T) {
	for _, text := range []string{
		`time=2026-11-24T08:00:00Z level=INFO msg=rpc rpc=/runtime.v1.RuntimeService/RunPodSandbox sandbox=abc took=12ms`,
		"# --streaming-tls-key-file\ntls_key_file = '/etc/mascri/tls.key'\n",
		`pull registry.example.com/team/app@sha256:0123: not found`,
		`10.88.0.2/16 via veth1c0a150a, mail a@b.example`,
		"token:\nb: 2\n",
		"password:\n\nb:\n  c: 3\n",
		"env:\n- name: A\n  value: b\nname: x\nvalue: y\n",
	} {
		if got := string(Redact([]byte(text))); got != text {
			t.Errorf("%q became %q", text, got)
		}
	}
	got := string(Redact([]byte(`{"id": 18446744073709551615, "labels": {"app": "web"}, "args": [["K8S_POD_NAME", "web"]], "empty": {"password": ""}, "automountToken": true}`)))
	for _, want := range []string{"18446744073709551615", `"app": "web"`, `"web"`, `"password": ""`, `"automountToken": true`} {
		if !strings.Contains(got, want) {
			t.Errorf("no %s in %s", want, got)
		}
	}
}

// Of what comes after a secret nothing is lost.
func TestWhatComesAfterASecretStays(t *testing.T) {
	for text, want := range map[string]string{
		"a:\n  token: |\n    x\n    y\n  b: 2\n":   "a:\n  token: (removed)\n  b: 2\n",
		"tokens:\n- x\n- y\nb: 2\n":                "tokens:\n  (removed)\nb: 2\n",
		"token = '''\nx'''\nb = 2\n":               "token = (removed)\nb = 2\n",
		"- name: TOKEN\n  value: x\n  b: 2\n":      "- name: TOKEN\n  value: (removed)\n  b: 2\n",
		"- name: TOKEN\n  other: 1\n  value: y\n":  "- name: TOKEN\n  other: 1\n  value: y\n",
		"- token: x\n- token: y\n  b: 2\n- c: 3\n": "- token: (removed)\n- token: (removed)\n  b: 2\n- c: 3\n",
	} {
		if got := string(Redact([]byte(text))); got != want {
			t.Errorf("%q became %q, want %q", text, got, want)
		}
	}
}

func FuzzRedact(f *testing.F) {
	f.Add(`{"a": "x password=`)
	f.Fuzz(func(t *testing.T, text string) {
		if json.Valid([]byte(text)) && !json.Valid(Redact([]byte(text))) {
			t.Errorf("%q became %q", text, Redact([]byte(text)))
		}
	})
}
