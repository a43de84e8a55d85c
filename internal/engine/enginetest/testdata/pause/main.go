// Command pause is what the containers of the contract tests run: it writes a line, ends
// with status 3 on SIGTERM and 4 on SIGUSR1, and else sleeps. Words after it make it do
// something else:
//
//	exit N    end at once with status N
//	ignore    take no notice of the signals
//	hog       take memory until the kernel ends it
package main

import (
	"fmt"
	"os"
	"os/signal"
	"strconv"
	"syscall"
	"time"
)

func main() {
	word := ""
	if len(os.Args) > 1 {
		word = os.Args[1]
	}
	switch word {
	case "exit":
		code, err := strconv.Atoi(os.Args[2])
		if err != nil {
			panic(err)
		}
		os.Exit(code)
	case "hog":
		time.Sleep(time.Second) // Docker misses what happens before it listens
		hog()
	}
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, syscall.SIGTERM, syscall.SIGUSR1)
	fmt.Println("paused")
	for got := range signals {
		switch {
		case word == "ignore":
		case got == syscall.SIGUSR1:
			os.Exit(4)
		default:
			os.Exit(3)
		}
	}
}

func hog() {
	var all [][]byte
	for {
		some := make([]byte, 1<<20)
		for i := range some {
			some[i] = 1
		}
		all = append(all, some)
		_ = len(all)
	}
}
