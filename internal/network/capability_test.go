package network

import (
	"errors"
	"testing"

	"github.com/containerd/errdefs"
	"github.com/google/go-cmp/cmp"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"
)

func TestParseQuantity(t *testing.T) {
	for text, want := range map[string]uint64{
		"0": 0, "1": 1, "+5": 5, "10M": 10e6, "1k": 1000, "1Ki": 1024, "1.5Mi": 1536 * 1024, "2G": 2e9, "1Ti": 1 << 40, "1P": 1e15, "15Ei": 15 << 60,
		"1e6": 1e6, "1E6": 1e6, "1.5e3": 1500, "1e+3": 1000, "1500e-3": 2, ".5k": 500, "5.": 5, "1E": 1e18, "1m": 1, "1n": 1, "1001u": 1, "18446744073709551615": 1<<64 - 1,
	} {
		if got, err := parseQuantity(text); err != nil || got != want {
			t.Errorf("%q is %d, %v; want %d", text, got, err, want)
		}
	}
	for _, text := range []string{"", "M", "-1", "10 M", "10m M", "1e", "10MB", "10K", "0x10", "1e999", "1e99", "16Ei", "NaN", ".", "1_000", "1,5M", "99999999999999999999"} {
		if got, err := parseQuantity(text); !errdefs.IsInvalidArgument(err) {
			t.Errorf("%q is %d, %v; want an invalid argument", text, got, err)
		}
	}
}

func TestBandwidthOfAnnotations(t *testing.T) {
	const floor, most = 64 * 1024 * 8, 1<<32 - 1
	for name, tc := range map[string]struct {
		annotations map[string]string
		want        *bandwidth
		err         error
	}{
		"none":      {map[string]string{"other": "1M"}, nil, nil},
		"both":      {map[string]string{annotationIngress: "1M", annotationEgress: "2M"}, &bandwidth{1e6, floor, 2e6, floor}, nil},
		"egress":    {map[string]string{annotationEgress: "1P"}, &bandwidth{EgressRate: 1e15, EgressBurst: most}, nil},
		"a tenth":   {map[string]string{annotationEgress: "1G"}, &bandwidth{EgressRate: 1e9, EgressBurst: 1e8}, nil},
		"smallest":  {map[string]string{annotationEgress: "1k"}, &bandwidth{EgressRate: 1e3, EgressBurst: 1e5}, nil},
		"too small": {map[string]string{annotationEgress: "999"}, nil, errdefs.ErrInvalidArgument},
		"too large": {map[string]string{annotationEgress: "2P"}, nil, errdefs.ErrInvalidArgument},
		"zero":      {map[string]string{annotationEgress: "0"}, nil, errdefs.ErrInvalidArgument},
		"bad":       {map[string]string{annotationIngress: "fast"}, nil, errdefs.ErrInvalidArgument},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := bandwidthOf(tc.annotations)
			if !errors.Is(err, tc.err) {
				t.Errorf("error is %v, want %v", err, tc.err)
			}
			if diff := cmp.Diff(tc.want, got); diff != "" {
				t.Errorf("limits (-want +got):\n%s", diff)
			}
		})
	}
}

func TestPortMappings(t *testing.T) {
	for name, tc := range map[string]struct {
		ask  *cri.PortMapping
		want []portMapping
		err  error
	}{
		"tcp":                  {&cri.PortMapping{HostPort: 8080, ContainerPort: 80}, []portMapping{{8080, 80, "tcp", ""}}, nil},
		"sctp on an address":   {&cri.PortMapping{HostPort: 1, ContainerPort: 65535, Protocol: cri.Protocol_SCTP, HostIp: "::1"}, []portMapping{{1, 65535, "sctp", "::1"}}, nil},
		"no port of the node":  {&cri.PortMapping{ContainerPort: 80}, nil, nil},
		"below 0":              {&cri.PortMapping{HostPort: -1, ContainerPort: 80}, nil, nil},
		"nil":                  {nil, nil, nil},
		"host port too high":   {&cri.PortMapping{HostPort: 65536, ContainerPort: 80}, nil, errdefs.ErrInvalidArgument},
		"no container port":    {&cri.PortMapping{HostPort: 80}, nil, errdefs.ErrInvalidArgument},
		"container port above": {&cri.PortMapping{HostPort: 80, ContainerPort: 65536}, nil, errdefs.ErrInvalidArgument},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := portMappings([]*cri.PortMapping{tc.ask})
			if !errors.Is(err, tc.err) {
				t.Errorf("error is %v, want %v", err, tc.err)
			}
			if diff := cmp.Diff(tc.want, got); diff != "" {
				t.Errorf("ports (-want +got):\n%s", diff)
			}
		})
	}
}
