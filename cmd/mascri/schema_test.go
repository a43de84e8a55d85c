package main

import (
	"bytes"
	"encoding/json"
	"net/netip"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/google/jsonschema-go/jsonschema"
	"github.com/spf13/cobra"

	"github.com/mascri/mascri/internal/doctor"
	"github.com/mascri/mascri/internal/golden"
	"github.com/mascri/mascri/internal/netview"
	"github.com/mascri/mascri/internal/network"
	"github.com/mascri/mascri/internal/podview"
)

// printed is what each command prints with --output json.
func printed() map[string]reflect.Type {
	return map[string]reflect.Type{
		"version":     reflect.TypeFor[build](),
		"doctor":      reflect.TypeFor[doctor.Report](),
		"pods":        reflect.TypeFor[podview.Pods](),
		"ps":          reflect.TypeFor[podview.Containers](),
		"top":         reflect.TypeFor[podview.Usage](),
		"net status":  reflect.TypeFor[netview.Node](),
		"net ls":      reflect.TypeFor[netview.Node](),
		"net graph":   reflect.TypeFor[netview.Node](),
		"net inspect": reflect.TypeFor[netview.Detail](),
		"net plan":    reflect.TypeFor[network.Plan](),
		"net probe":   reflect.TypeFor[netview.Probing](),
		"net leaks":   reflect.TypeFor[leakList](),
		"net capture": reflect.TypeFor[captured](),
	}
}

func schemaName(command string) string { return strings.ReplaceAll(command, " ", "-") + ".json" }

func TestEveryCommandThatPrintsJSONHasItsSchemaInDocs(t *testing.T) {
	with := map[string]bool{}
	var look func(cmd *cobra.Command)
	look = func(cmd *cobra.Command) {
		if flag := cmd.Flags().Lookup("output"); flag != nil && flag.Value.Type() == "format" {
			with[strings.TrimPrefix(cmd.CommandPath(), "mascri ")] = true
		}
		for _, sub := range cmd.Commands() {
			look(sub)
		}
	}
	look(newRoot())
	for command := range with {
		if printed()[command] == nil {
			t.Errorf("%q prints JSON; its type is not listed above", command)
		}
	}
	// What encoding/json writes as text, or as it is.
	text := &jsonschema.Schema{Type: "string"}
	opts := &jsonschema.ForOptions{TypeSchemas: map[reflect.Type]*jsonschema.Schema{
		reflect.TypeFor[netip.Addr]():      text,
		reflect.TypeFor[netip.Prefix]():    text,
		reflect.TypeFor[json.RawMessage](): {},
	}}
	files, err := os.ReadDir("../../docs/schema")
	if err != nil {
		t.Fatal(err)
	}
	if len(files) != len(printed()) {
		t.Errorf("docs/schema has %d files for %d commands", len(files), len(printed()))
	}
	for command, kind := range printed() {
		if !with[command] {
			t.Errorf("%q does not print JSON", command)
		}
		schema, err := jsonschema.ForType(kind, opts)
		if err != nil {
			t.Fatalf("%s: %v", command, err)
		}
		schema.Schema = "https://json-schema.org/draft/2020-12/schema"
		schema.Title = "mascri " + command + " --output json"
		var b bytes.Buffer
		if err := writeJSON(&b, schema); err != nil {
			t.Fatal(err)
		}
		golden.Compare(t, "../../../docs/schema/"+schemaName(command), b.Bytes())
	}
}

// wantSchema validates what a command printed against the schema in docs.
func wantSchema(t *testing.T, command, output string) {
	t.Helper()
	golden.Schema(t, filepath.Join("../../docs/schema", schemaName(command)), output)
}

func TestWhatIsPrintedIsOfTheSchema(t *testing.T) {
	_, socket := serveRuntime(t)
	dir := t.TempDir()
	for command, more := range map[string]string{
		"version":   "",
		"doctor":    "--engine-host unix://" + dir + "/docker.sock --cni-conf-dir " + dir,
		"top":       "--interval 100ms",
		"pods":      "--all",
		"ps":        "--all",
		"net leaks": "",
	} {
		t.Run(command, func(t *testing.T) {
			var stdout, stderr bytes.Buffer
			args := strings.Fields(command + " -o json --socket " + socket + " --state-dir " + dir + "/state " + more)
			if run(t.Context(), args, &stdout, &stderr); stderr.Len() > 0 {
				t.Fatal(stderr.String())
			}
			wantSchema(t, command, stdout.String())
		})
	}
}
