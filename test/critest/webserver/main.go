// Webserver is what critest takes for nginx and Apache: by the name that it is run as.
// It answers every request with 200.
//
//	nginx PORT
package main

import (
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
)

// role is what nginx calls its first process, where ps shows it.
const role = ": master process "

func main() {
	if err := run(os.Args); err != nil {
		fmt.Fprintln(os.Stderr, "webserver:", err)
		os.Exit(1)
	}
}

func run(args []string) error {
	if len(args) != 2 {
		return fmt.Errorf("want one argument, a port; got %q", args[1:])
	}
	name, _, titled := strings.Cut(args[0], role)
	if !titled {
		self := args[0]
		return syscall.Exec(self, []string{filepath.Base(self) + role + self, args[1]}, os.Environ())
	}
	listener, err := net.Listen("tcp", ":"+args[1])
	if err != nil {
		return err
	}
	pid := fmt.Sprintln(os.Getpid())
	if err := os.WriteFile("/var/run/"+name+".pid", []byte(pid), 0o644); err != nil {
		return err
	}
	fmt.Printf("%s: serving %s\n", name, listener.Addr())
	return http.Serve(listener, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprintf(w, "<h1>Welcome to %s!</h1>\n", name)
	}))
}
