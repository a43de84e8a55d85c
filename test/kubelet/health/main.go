// Health is a workload that serves gRPC's health checks on port 5000, as a probe asks
// for them, and says NOT_SERVING of the service "broken".
package main

import (
	"fmt"
	"net"

	"google.golang.org/grpc"
	"google.golang.org/grpc/health"
	"google.golang.org/grpc/health/grpc_health_v1"
)

func main() {
	listener, err := net.Listen("tcp", ":5000")
	if err != nil {
		panic(err)
	}
	checks := health.NewServer()
	checks.SetServingStatus("broken", grpc_health_v1.HealthCheckResponse_NOT_SERVING)
	server := grpc.NewServer()
	grpc_health_v1.RegisterHealthServer(server, checks)
	fmt.Println("serving")
	panic(server.Serve(listener))
}
