package netview

import (
	"bytes"
	"encoding/json"
	"testing"

	"github.com/mascri/mascri/internal/golden"
	"github.com/mascri/mascri/internal/network"
)

func TestPlanAsText(t *testing.T) {
	env := []string{"CNI_ARGS=IgnoreUnknown=1;K8S_POD_NAMESPACE=default;K8S_POD_NAME=web", "CNI_COMMAND=ADD", "CNI_IFNAME=eth0"}
	var b bytes.Buffer
	err := WritePlan(&b, network.Plan{Network: "mascri", Calls: []network.Call{
		{Plugin: "bridge", Path: "/opt/cni/bin/bridge", IPAM: "host-local", Env: env, Stdin: json.RawMessage(`{"cniVersion":"1.0.0","ipam":{"type":"host-local"}}`)},
		{Plugin: "portmap", Path: "/opt/cni/bin/portmap", Env: env, Stdin: json.RawMessage(`{"cniVersion":"1.0.0","prevResult":"what bridge prints"}`)},
	}}, false)
	if err != nil {
		t.Fatal(err)
	}
	golden.Compare(t, "plan.txt", b.Bytes())
}
