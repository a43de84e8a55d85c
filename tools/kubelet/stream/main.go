// Stream is a client of the kubelet's streaming endpoints that is made of kubectl's own
// code, for test/kubelet:
//
//	stream [-websocket] [-stdin] [-tty] URL       exec or attach; exits as the command does
//	stream [-websocket] -forward LOCAL:PORT URL   port-forward until standard input ends
//
// The kubelet's certificate is not checked: it made it itself.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"

	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/portforward"
	"k8s.io/client-go/tools/remotecommand"
	"k8s.io/client-go/transport/spdy"
	"k8s.io/client-go/util/exec"
)

func main() {
	websocket := flag.Bool("websocket", false, "WebSocket in place of SPDY")
	stdin := flag.Bool("stdin", false, "send standard input")
	tty := flag.Bool("tty", false, "the other end is a terminal")
	forward := flag.String("forward", "", "LOCAL:PORT")
	flag.Parse()
	address, err := url.Parse(flag.Arg(0))
	if err != nil {
		end(err)
	}
	config := &rest.Config{Host: address.Host, TLSClientConfig: rest.TLSClientConfig{Insecure: true}}
	if *forward != "" {
		end(forwardPort(config, address, *forward, *websocket))
	}
	end(run(config, address, *websocket, *stdin, *tty))
}

func run(config *rest.Config, address *url.URL, websocket, stdin, tty bool) error {
	executor, err := remotecommand.NewSPDYExecutor(config, http.MethodPost, address)
	if websocket {
		executor, err = remotecommand.NewWebSocketExecutor(config, http.MethodGet, address.String())
	}
	if err != nil {
		return err
	}
	options := remotecommand.StreamOptions{Stdout: os.Stdout, Stderr: os.Stderr, Tty: tty}
	if stdin {
		options.Stdin = os.Stdin
	}
	if tty {
		options.Stderr = nil // a terminal has one output
		options.TerminalSizeQueue = &once{&remotecommand.TerminalSize{Width: 91, Height: 33}}
	}
	return executor.StreamWithContext(context.Background(), options)
}

// once is a terminal that is never resized.
type once struct{ size *remotecommand.TerminalSize }

func (o *once) Next() *remotecommand.TerminalSize {
	size := o.size
	o.size = nil
	return size
}

func forwardPort(config *rest.Config, address *url.URL, ports string, websocket bool) error {
	transport, upgrader, err := spdy.RoundTripperFor(config)
	if err != nil {
		return err
	}
	dialer := spdy.NewDialer(upgrader, &http.Client{Transport: transport}, http.MethodPost, address)
	if websocket {
		if dialer, err = portforward.NewSPDYOverWebsocketDialer(address, config); err != nil {
			return err
		}
	}
	stop := make(chan struct{})
	go func() { _, _ = io.Copy(io.Discard, os.Stdin); close(stop) }()
	forwarder, err := portforward.New(dialer, []string{ports}, stop, nil, os.Stdout, os.Stderr)
	if err != nil {
		return err
	}
	return forwarder.ForwardPorts()
}

func end(err error) {
	if exit := (exec.CodeExitError{}); errors.As(err, &exit) {
		os.Exit(exit.Code)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(125)
	}
	os.Exit(0)
}
