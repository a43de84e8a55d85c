// Command pause is what the sandboxes of the contract tests run: it writes a line,
// ends with status 3 on SIGTERM, and else sleeps.
package main

import (
	"fmt"
	"os"
	"os/signal"
	"syscall"
)

func main() {
	ended := make(chan os.Signal, 1)
	signal.Notify(ended, syscall.SIGTERM)
	fmt.Println("paused")
	<-ended
	os.Exit(3)
}
