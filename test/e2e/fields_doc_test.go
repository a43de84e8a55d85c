package e2e

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/mascri/mascri/internal/engine/enginetest"
	"github.com/mascri/mascri/internal/golden"
)

const supportHead = `# What of the CRI is supported

This page is made from the table by which the tests go through every field of every request
(` + "`go test ./test/e2e -run '^TestSupportPage$' -update`" + `), of the CRI as of Kubernetes 1.37. A field that is in no table fails
the tests.

- **yes**: a test sees the field's effect, in the container, on the node, or in the answer.
- **where the node has it**: honoured, or refused with FailedPrecondition where kernel, cgroup version or engine do not
  have what it needs.
- **refused**: the request fails with the code that is named, and a message that names the field. Nothing is dropped in silence.

## RPCs, and how other runtimes fare

What is said of the others was read in their source: [cri-dockerd](https://github.com/Mirantis/cri-dockerd) 0.4.0
(` + "`core`" + `; built for the CRI of Kubernetes 1.30), [containerd](https://github.com/containerd/containerd) 2.4.2 (` + "`internal/cri`" + `;
1.37) and [CRI-O](https://github.com/cri-o/cri-o) 1.34.0 (` + "`server`" + `; 1.33). It was not tried. Later versions may differ.

`

// Each service's RPCs, in the order of the CRI.
func supportedRPCs() []string {
	names := []string{}
	for _, service := range []grpc.ServiceDesc{cri.RuntimeService_ServiceDesc, cri.ImageService_ServiceDesc} {
		for _, m := range service.Methods {
			names = append(names, m.MethodName)
		}
		for _, s := range service.Streams {
			names = append(names, s.StreamName)
		}
	}
	return names
}

// notServed asks the daemon for each RPC that MasCRI has no words for.
func notServed(ctx context.Context, client cri.RuntimeServiceClient) map[string]error {
	_, container := client.CheckpointContainer(ctx, &cri.CheckpointContainerRequest{ContainerId: "x"})
	_, checkpoint := client.CheckpointPod(ctx, &cri.CheckpointPodRequest{PodSandboxId: "x"})
	_, restore := client.RestorePod(ctx, &cri.RestorePodRequest{})
	return map[string]error{"CheckpointContainer": container, "CheckpointPod": checkpoint, "RestorePod": restore}
}

// The other RPCs have their requests in the table.
func TestEveryRPCIsServedOrNamed(t *testing.T) {
	n := newNode(t, enginetest.Engine28, nil)
	refused := notServed(t.Context(), n.cri)
	for name, err := range refused {
		if status.Code(err) != codes.Unimplemented || !strings.Contains(err.Error(), name) {
			t.Errorf("%s: %v", name, err)
		}
	}
	for _, rpc := range supportedRPCs() {
		if table := fieldsOf(rpc); (table == nil) != (refused[rpc] != nil) {
			t.Errorf("%s: in the table of fields: %v", rpc, table != nil)
		}
	}
}

// fieldsOf returns the fields of an RPC's request as the table has them, nil if it has none.
func fieldsOf(rpc string) map[string]field {
	name := rpc + "Request"
	if rpc == "GetContainerEvents" {
		name = "GetEventsRequest"
	}
	for request, table := range requests {
		if string(request.ProtoReflect().Descriptor().Name()) == name {
			return table
		}
	}
	return nil
}

func TestSupportPage(t *testing.T) {
	var b strings.Builder
	b.WriteString(supportHead)
	b.WriteString("| RPC | MasCRI | cri-dockerd | containerd | CRI-O |\n|---|---|---|---|---|\n")
	for _, rpc := range supportedRPCs() {
		own := "yes"
		if table := fieldsOf(rpc); table == nil {
			own = "refused: Unimplemented, as Docker's API can't export a checkpoint"
		}
		fmt.Fprintf(&b, "| %s | %s | %s |\n", rpc, own, otherRPCs[rpc])
	}
	for rpc := range otherRPCs {
		if !slices.Contains(supportedRPCs(), rpc) {
			t.Errorf("%s is compared, but is no RPC", rpc)
		}
	}
	b.WriteString("\n## Fields in which the runtimes differ\n\nRead in the same sources. *Unknown* fields came after the CRI that the runtime is built for: gRPC drops them.\n\n" +
		"| field | MasCRI | cri-dockerd | containerd | CRI-O |\n|---|---|---|---|---|\n")
	for _, f := range comparedFields {
		fmt.Fprintf(&b, "| %s `%s` | %s | %s |\n", f.rpc, f.path, verdictBelow(t, f.rpc, f.path), f.others)
	}
	b.WriteString("\n## Every field\n")
	for _, rpc := range supportedRPCs() {
		if table := fieldsOf(rpc); len(table) > 0 {
			fmt.Fprintf(&b, "\n### %s\n\n| field | | uses that are refused |\n|---|---|---|\n", rpc)
			for _, path := range slices.Sorted(maps.Keys(table)) {
				fmt.Fprintf(&b, "| `%s` | %s | %s |\n", path, verdict(rpc, path), uses(rpc, path))
			}
		}
	}
	golden.Compare(t, "../../../docs/cri-support.md", []byte(b.String()))
}

// verdictBelow is that of all fields that begin with prefix.
func verdictBelow(t *testing.T, rpc, prefix string) string {
	t.Helper()
	verdicts := map[string]bool{}
	for path := range fieldsOf(rpc) {
		if path == prefix || strings.HasPrefix(path, prefix+".") {
			verdicts[verdict(rpc, path)] = true
		}
	}
	if len(verdicts) != 1 {
		t.Errorf("%s %s: %d verdicts on fields of that name, want one", rpc, prefix, len(verdicts))
	}
	return strings.Join(slices.Sorted(maps.Keys(verdicts)), "; ")
}

// verdict says what becomes of a field.
func verdict(rpc, path string) string {
	code, old := fieldsOf(rpc)[path].code, ""
	if rpc == "CreateContainer" {
		code, old = containerFields[path].code, containerFields[path].old
	}
	switch {
	case code == codes.FailedPrecondition:
		return "where the node has it"
	case code != codes.OK:
		return "refused: " + code.String()
	case strings.Contains(old, "Docker Engine"):
		_, old, _ = strings.Cut(old, "needs ")
		return "yes, with " + old
	case old != "":
		return "yes, but not with Docker Engine 20.10"
	}
	return "yes"
}

// uses lists the uses of a field of CreateContainer that are refused.
func uses(rpc, path string) string {
	if rpc != "CreateContainer" {
		return ""
	}
	var refused []string
	for _, key := range slices.Sorted(maps.Keys(containerFields)) {
		if use, ok := strings.CutPrefix(key, path+" "); ok && containerFields[key].code != codes.OK {
			refused = append(refused, fmt.Sprintf("%s: %s", use, containerFields[key].code))
		}
	}
	return strings.Join(refused, "; ")
}
