package golden

import (
	"encoding/json"
	"os"
	"testing"

	"github.com/google/jsonschema-go/jsonschema"
)

// Schema fails the test if output is not JSON of the schema in file.
func Schema(t *testing.T, file, output string) {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	var schema jsonschema.Schema
	if err := json.Unmarshal(text, &schema); err != nil {
		t.Fatalf("%s: %v", file, err)
	}
	resolved, err := schema.Resolve(nil)
	if err != nil {
		t.Fatalf("%s: %v", file, err)
	}
	var value any
	if err := json.Unmarshal([]byte(output), &value); err != nil {
		t.Fatalf("%v in\n%s", err, output)
	}
	if err := resolved.Validate(value); err != nil {
		t.Errorf("not of %s: %v in\n%s", file, err, output)
	}
}
