package doctor

import (
	"context"
	"encoding/json"
	"fmt"
	"io/fs"
	"os"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/mascri/mascri/internal/pod"
)

// daemonLimit is how long the daemon may take to answer: it does so from memory.
const daemonLimit = 2 * time.Second

// daemon is what the daemon at a socket says.
type daemon struct {
	socket  string
	mode    fs.FileMode
	statErr error // fs.ErrNotExist: no daemon was started

	err        error // it does not answer
	name       string
	version    string
	conditions []*cri.RuntimeCondition
	network    *pod.NetworkStatus // nil: it did not say
	metrics    served
}

// served is where the daemon's metrics are, in its own words.
type served struct {
	Address string `json:"address"` // "": nowhere, as it is set
	Error   string `json:"error"`
}

// AskNetwork asks the daemon at a socket for its network status; false: none answers.
func AskNetwork(ctx context.Context, socket string) (pod.NetworkStatus, bool) {
	d := askDaemon(ctx, socket)
	if d.network == nil {
		return pod.NetworkStatus{}, false
	}
	return *d.network, true
}

func askDaemon(ctx context.Context, socket string) daemon {
	d := daemon{socket: socket}
	stat, err := os.Stat(socket)
	if err != nil {
		d.statErr = err
		return d
	}
	d.mode = stat.Mode()
	if d.mode.Type() != fs.ModeSocket {
		return d
	}
	ctx, cancel := context.WithTimeout(ctx, daemonLimit)
	defer cancel()
	d.err = d.ask(ctx)
	return d
}

func (d *daemon) ask(ctx context.Context) (err error) {
	conn, err := grpc.NewClient("passthrough:///unix://"+d.socket, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		return err
	}
	defer conn.Close()
	client := cri.NewRuntimeServiceClient(conn)
	version, err := client.Version(ctx, &cri.VersionRequest{})
	if err != nil {
		return err
	}
	d.name, d.version = version.GetRuntimeName(), version.GetRuntimeVersion()
	status, err := client.Status(ctx, &cri.StatusRequest{Verbose: true})
	if err != nil {
		return err
	}
	d.conditions = status.GetStatus().GetConditions()
	// Another runtime's info is of another form, or has no such part.
	if text, ok := status.GetInfo()["cni"]; ok && d.name == runtimeName {
		d.network = &pod.NetworkStatus{}
		if err := json.Unmarshal([]byte(text), d.network); err != nil {
			return fmt.Errorf("read its network status: %w", err)
		}
		// A daemon of before metrics says nothing of them.
		_ = json.Unmarshal([]byte(status.GetInfo()["metrics"]), &d.metrics)
	}
	return nil
}

// runtimeName is how the daemon calls itself.
const runtimeName = "mascri"
