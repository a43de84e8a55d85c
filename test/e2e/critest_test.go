package e2e

import (
	"fmt"
	"path/filepath"
	"strings"
	"testing"

	"github.com/mascri/mascri/internal/engine/enginetest"
	"github.com/mascri/mascri/internal/golden"
	"github.com/mascri/mascri/test/critest"
)

// What Kubernetes' own suite for container runtimes says: all of it on a recent engine,
// and what it calls conformance on the oldest one.
func TestCritest(t *testing.T) {
	digest := critest.Serve(t)
	var results []string
	bothEngines(t, func(t *testing.T, version enginetest.Version) {
		focus, report := "", "junit.xml"
		if version != enginetest.Engine28 {
			focus, report = `\[Conformance\]`, fmt.Sprintf("junit-%s.xml", version)
		}
		n := newNode(t, version, map[string]string{"10-dual.conf": dualStackConf})
		specs := critest.Run{
			Binary: repo(t, "bin/critest"), Endpoint: "unix://" + n.socket, Digest: digest,
			Focus: focus, JUnit: filepath.Join(filepath.Dir(repo(t, "go.mod")), "out/critest", report),
		}.Specs(t)
		result := critest.Judge(t, specs)
		for _, fault := range result.Faults {
			t.Error(fault)
		}
		golden.Compare(t, fmt.Sprintf("critest-%s.txt", version), result.Table)
		n.wantWhole(t, 0)
		results = append(results, fmt.Sprintf("engine %s: %v", version, result))
	})
	fmt.Println("critest:", strings.Join(results, "; ")) // for test/all.sh
}
