package cri_test

import (
	"os"
	"path"
	"testing"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// Whatever a client sends, the answer is a sandbox or an error that is the client's to
// mend: never a panic, nothing of a refused request is left, and what was made can be
// removed.
func FuzzRunPodSandbox(f *testing.F) {
	dir := f.TempDir()
	for _, group := range [][]badRun{badMetadata(), badNames(), badPorts(), badPaths("/fuzz"), badNamespaces(), badSecurity("/fuzz")} {
		for _, tt := range group {
			request := &runtimeapi.RunPodSandboxRequest{Config: wholeConfig()}
			tt.spoil(request)
			if proto.Size(request) > 1<<10 {
				continue // slow, and the same as a small one to the fuzzer
			}
			seed, err := proto.Marshal(request)
			if err != nil {
				f.Fatal(err)
			}
			f.Add(seed)
		}
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		request := &runtimeapi.RunPodSandboxRequest{}
		if proto.Unmarshal(data, request) != nil {
			t.Skip("gRPC refuses it")
		}
		// The directory would be made wherever it is asked for.
		if logs := request.GetConfig().GetLogDirectory(); path.IsAbs(logs) {
			request.Config.LogDirectory = dir + logs
		}
		d := newDaemon(t)
		resp, err := d.RunPodSandbox(t.Context(), request)
		switch status.Code(err) {
		case codes.OK:
			if err := d.remove(t, resp.GetPodSandboxId()); err != nil {
				t.Errorf("remove: %v", err)
			}
		case codes.InvalidArgument, codes.FailedPrecondition, codes.Unimplemented:
			if status.Convert(err).Message() == "" {
				t.Errorf("no reason is given: %v", err)
			}
		default:
			t.Errorf("not an error that a request can have: %v", err)
		}
		d.wantClean(t)
		if err := os.RemoveAll(dir); err != nil {
			t.Fatal(err)
		}
	})
}

// wholeConfig has something in most fields, for the fuzzer to change.
func wholeConfig() *runtimeapi.PodSandboxConfig {
	config := podConfig("web")
	config.Hostname = "web"
	config.LogDirectory = "/var/log/pods/web"
	config.DnsConfig = &runtimeapi.DNSConfig{Servers: []string{"10.96.0.10"}, Searches: []string{"a.local"}, Options: []string{"ndots:5"}}
	config.PortMappings = []*runtimeapi.PortMapping{{HostPort: 8080, ContainerPort: 80, HostIp: "127.0.0.1"}}
	config.Labels = map[string]string{"app": "web"}
	config.Annotations = map[string]string{"kubernetes.io/ingress-bandwidth": "10M"}
	config.Linux = &runtimeapi.LinuxPodSandboxConfig{
		CgroupParent: "/kubepods/pod1",
		Sysctls:      map[string]string{"net.core.somaxconn": "1024"},
		Overhead:     &runtimeapi.LinuxContainerResources{CpuShares: 2, HugepageLimits: []*runtimeapi.HugepageLimit{{PageSize: "2MB"}}},
		Resources:    &runtimeapi.LinuxContainerResources{MemoryLimitInBytes: 1 << 20, Unified: map[string]string{"memory.oom.group": "1"}},
		SecurityContext: &runtimeapi.LinuxSandboxSecurityContext{
			NamespaceOptions:   &runtimeapi.NamespaceOption{Pid: runtimeapi.NamespaceMode_CONTAINER},
			RunAsUser:          &runtimeapi.Int64Value{Value: 65535},
			RunAsGroup:         &runtimeapi.Int64Value{Value: 65535},
			SupplementalGroups: []int64{1},
			ReadonlyRootfs:     true,
			Seccomp:            &runtimeapi.SecurityProfile{ProfileType: runtimeapi.SecurityProfile_RuntimeDefault},
		},
	}
	return config
}
