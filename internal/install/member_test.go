package install

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestSetMember(t *testing.T) {
	for name, tt := range map[string]struct{ text, want, before string }{
		"nothing":                 {"", "{\n  \"k\": true\n}\n", ""},
		"space":                   {" \n", "{\n  \"k\": true\n}\n", ""},
		"empty object":            {"{}", "{\n  \"k\": true\n}", ""},
		"indented by tabs":        {"{\n\t\"b\": {\"z\": 1,\"a\":[ 2 ]},\n\t\"a\": \"}\"\n}\n", "{\n\t\"b\": {\"z\": 1,\"a\":[ 2 ]},\n\t\"a\": \"}\",\n\t\"k\": true\n}\n", ""},
		"in one line":             {`{"a":1}`, `{"a":1,"k": true}`, ""},
		"in one line with spaces": {`{ "a": 1, "b": 2 }`, `{ "a": 1, "b": 2, "k": true }`, ""},
		"replaced":                {"{\n  \"k\" :  false,\n  \"a\": 1\n}", "{\n  \"k\" :  true,\n  \"a\": 1\n}", "false"},
		"the last of two counts":  {`{"k": 1, "k": 2}`, `{"k": 1, "k": true}`, "2"},
		"there already":           {`{"k": true}`, `{"k": true}`, "true"},
		"a key with a quote":      {`{"\"k\"": 1}`, `{"\"k\"": 1,"k": true}`, ""},
	} {
		t.Run(name, func(t *testing.T) {
			got, before, err := setMember([]byte(tt.text), "k", "true")
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tt.want, string(got)); diff != "" || before != tt.before {
				t.Errorf("before %q, want %q (-want +got):\n%s", before, tt.before, diff)
			}
		})
	}
}

func TestSetMemberOfNoObject(t *testing.T) {
	for text, want := range map[string]string{
		"{\n  \"a\": 1,\n}":       "3:1: ",
		"{\"a\": 1} x":            "1:10: ",
		"[]":                      "1:1: array is no JSON object",
		"null":                    "1:1: null is no JSON object",
		"{ // a comment\n}":       "1:3: ",
		"{\"a\":\n\n  tru}":       "3:6: ",
		"{\"a\": 1":               "1:7: unexpected end",
		"\xef\xbb\xbf{\"a\": 1}":  "1:1: ",
		"{\"a\": 1}\n{\"b\": 2}":  "2:1: ",
		"{\"live-restore\" true}": "1:17: ",
	} {
		if _, _, err := setMember([]byte(text), "k", "true"); err == nil || !strings.HasPrefix(err.Error(), want) {
			t.Errorf("%q: %v, want %q", text, err, want)
		}
	}
}

func TestRemoveMember(t *testing.T) {
	for text, want := range map[string]string{
		`{"k": true}`:                                `{}`,
		"{\n  \"k\": true\n}\n":                      "{}\n",
		`{"a": 1}`:                                   `{"a": 1}`,
		"{\n  \"a\": 1,\n  \"k\": true\n}":           "{\n  \"a\": 1\n}",
		"{\n  \"k\": true,\n  \"a\": 1\n}":           "{\n  \"a\": 1\n}",
		"{\"a\": 1,\"k\": true , \"b\": [1, {}] }\n": "{\"a\": 1 , \"b\": [1, {}] }\n",
	} {
		if got, err := removeMember([]byte(text), "k"); err != nil || string(got) != want {
			t.Errorf("%q: %q, %v; want %q", text, got, err, want)
		}
	}
}

// Whatever is in an object, setting a member changes that alone, and removing it leaves
// the rest.
func FuzzMember(f *testing.F) {
	for _, text := range []string{"", "{}", `{"a": {"k": 1}}`, "{\n\t\"k\": false, \"b\": []\n}", `{"k":1,"k":2}`, `{"a":",","b":"}"}`, `{"K":0}`} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		set, before, err := setMember([]byte(text), "k", "true")
		if err != nil {
			return
		}
		want := map[string]any{}
		if strings.TrimSpace(text) != "" {
			if err := json.Unmarshal([]byte(text), &want); err != nil {
				t.Fatalf("%q is taken for JSON: %v", text, err)
			}
		}
		if _, was := want["k"]; was != (before != "") {
			t.Errorf("before %q in %q", before, text)
		}
		want["k"] = true
		compare(t, set, want)
		if strings.Count(text, `"k"`)+strings.Count(text, `\u`) > 1 {
			return // of two with one key, one alone would go
		}
		removed, err := removeMember(set, "k")
		if err != nil {
			t.Fatal(err)
		}
		delete(want, "k")
		compare(t, removed, want)
	})
}

func compare(t *testing.T, text []byte, want map[string]any) {
	t.Helper()
	got := map[string]any{}
	if err := json.Unmarshal(text, &got); err != nil {
		t.Fatalf("%q: %v", text, err)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("%q (-want +got):\n%s", text, diff)
	}
}
