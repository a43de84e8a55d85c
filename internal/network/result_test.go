package network

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestPodAddresses(t *testing.T) {
	dir := t.TempDir()
	netns, alias, other := filepath.Join(dir, "netns"), filepath.Join(dir, "alias"), filepath.Join(dir, "other")
	for _, err := range []error{os.WriteFile(netns, nil, 0o600), os.Symlink(netns, alias), os.WriteFile(other, nil, 0o600)} {
		if err != nil {
			t.Fatal(err)
		}
	}
	for name, tc := range map[string]struct {
		result string
		want   []string
		err    string
	}{
		"one":                    {`{"interfaces":[{"name":"cni0"},{"name":"eth0","sandbox":"NETNS"}],"ips":[{"interface":1,"address":"10.0.0.2/8"}]}`, []string{"10.0.0.2/8"}, ""},
		"IPv4 first":             {`{"ips":[{"address":"fd00::2/64"},{"address":"10.0.0.2/8"},{"address":"fd00::1/64"},{"address":"10.0.0.1/8"}]}`, []string{"10.0.0.2/8", "10.0.0.1/8", "fd00::2/64", "fd00::1/64"}, ""},
		"no interface is eth0":   {`{"interfaces":[{"name":"veth"}],"ips":[{"address":"10.0.0.2/32"}]}`, []string{"10.0.0.2/32"}, ""},
		"spec 0.2.0":             {`{"ip4":{"ip":"10.0.0.2/8"},"ip6":{"ip":"fd00::2/64"}}`, []string{"10.0.0.2/8", "fd00::2/64"}, ""},
		"same namespace":         {`{"interfaces":[{"name":"eth0","sandbox":"ALIAS"}],"ips":[{"interface":0,"address":"10.0.0.2/8"}]}`, []string{"10.0.0.2/8"}, ""},
		"another namespace":      {`{"interfaces":[{"name":"eth0","sandbox":"OTHER"}],"ips":[{"interface":0,"address":"10.0.0.2/8"}]}`, nil, "no address"},
		"namespace that is gone": {`{"interfaces":[{"name":"eth0","sandbox":"/nowhere"}],"ips":[{"interface":0,"address":"10.0.0.2/8"}]}`, nil, "no address"},
		"node's eth0":            {`{"interfaces":[{"name":"eth0"}],"ips":[{"interface":0,"address":"10.0.0.2/8"}]}`, nil, "no address"},
		"mapped":                 {`{"ips":[{"address":"::ffff:10.0.0.2/104"}]}`, []string{"10.0.0.2/8"}, ""},
		"mapped badly":           {`{"ips":[{"address":"::ffff:10.0.0.2/64"}]}`, nil, "bad address"},
		"no prefix length":       {`{"ips":[{"address":"10.0.0.2"}]}`, nil, "bad address"},
		"empty":                  {`{}`, nil, "no address"},
		"null":                   {`null`, nil, "null"},
		"nothing":                {``, nil, "printed no result"},
		"index":                  {`{"interfaces":[],"ips":[{"interface":0,"address":"10.0.0.2/8"}]}`, nil, "interface 0 of 0"},
		"null interface":         {`{"interfaces":[null]}`, nil, "null among"},
		"null route":             {`{"routes":[null]}`, nil, "null among"},
	} {
		t.Run(name, func(t *testing.T) {
			result := strings.NewReplacer("NETNS", netns, "ALIAS", alias, "OTHER", other).Replace(tc.result)
			got, err := podAddresses([]byte(result), netns)
			if tc.err != "" {
				if err == nil || !strings.Contains(err.Error(), tc.err) {
					t.Errorf("error is %v, want %q", err, tc.err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			var texts []string
			for _, address := range got {
				texts = append(texts, address.String())
			}
			if diff := cmp.Diff(tc.want, texts); diff != "" {
				t.Errorf("addresses (-want +got):\n%s", diff)
			}
		})
	}
}
