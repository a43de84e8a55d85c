package main

import (
	"net"
	"path/filepath"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/protobuf/types/known/emptypb"
)

// An RPC that does not end, as while a CNI plugin hangs, must not keep the daemon from
// ending; one that does end is waited for.
func TestDrain(t *testing.T) {
	for name, tc := range map[string]struct {
		takes, limit, least, most time.Duration
	}{
		"ends":     {takes: 300 * time.Millisecond, limit: time.Minute, least: 200 * time.Millisecond, most: 20 * time.Second},
		"does not": {takes: time.Minute, limit: 200 * time.Millisecond, least: 200 * time.Millisecond, most: 20 * time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			begun, released := make(chan struct{}), make(chan struct{})
			server := grpc.NewServer(grpc.UnknownServiceHandler(func(any, grpc.ServerStream) error {
				close(begun)
				select {
				case <-time.After(tc.takes):
				case <-released:
				}
				return nil
			}))
			t.Cleanup(func() { close(released) })
			path := filepath.Join(t.TempDir(), "s")
			listener, err := net.Listen("unix", path)
			if err != nil {
				t.Fatal(err)
			}
			served := make(chan error, 1)
			go func() { served <- server.Serve(listener) }()
			conn, err := grpc.NewClient("unix://"+path, grpc.WithTransportCredentials(insecure.NewCredentials()))
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			go func() { _ = conn.Invoke(t.Context(), "/s/m", &emptypb.Empty{}, &emptypb.Empty{}) }()
			<-begun

			start := time.Now()
			drain(server, tc.limit)
			if err := <-served; err != nil {
				t.Errorf("serve: %v", err)
			}
			if took := time.Since(start); took < tc.least || took > tc.most {
				t.Errorf("took %v, want %v to %v", took, tc.least, tc.most)
			}
		})
	}
}
