// Chaosplugin is a CNI plugin that fails as its configuration says. Where it does
// not fail it passes on the result of the plugin before it, so that it fits
// anywhere in a chain.
//
// The key "chaos" of its configuration holds one behaviour, see chaos.
package main

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"slices"
	"strings"
	"syscall"
	"time"
)

// chaos is how the plugin behaves. Without Fault it waits and writes as it is told
// to, and then succeeds.
type chaos struct {
	From string `json:"from"` // a file that holds the behaviour instead of all this; without it, the plugin behaves well

	Verbs   []string `json:"verbs"`   // such as ADD: the behaviour is for these alone; none: for all
	Counter string   `json:"counter"` // a file that counts calls, a byte each
	Call    int      `json:"call"`    // with Counter: the behaviour is for this call alone, counted from 1
	Until   string   `json:"until"`   // a file: once it exists, the plugin behaves well

	Dump     string `json:"dump"`     // a file that each call appends a line to, see call
	Stubborn bool   `json:"stubborn"` // ignores SIGTERM
	Child    string `json:"child"`    // leaves a child that holds stdout and stderr for this time
	Sleep    string `json:"sleep"`    // before all that follows; such as 5s
	Stderr   string `json:"stderr"`   // is written to stderr
	Flood    int    `json:"flood"`    // writes as many bytes to stdout and to stderr

	Fault bool    `json:"fault"` // do as follows instead of succeeding
	Print *string `json:"print"` // is written to stdout
	Code  uint    `json:"code"`  // a CNI error with this code is written to stdout
	Exit  int     `json:"exit"`  // exit status
}

type config struct {
	CNIVersion string          `json:"cniVersion"`
	PrevResult json.RawMessage `json:"prevResult"`
	Chaos      chaos           `json:"chaos"`
}

// call is what the plugin was called with.
type call struct {
	Verb   string          `json:"verb"`
	Args   string          `json:"args"`
	Netns  string          `json:"netns"`
	Config json.RawMessage `json:"config"`
}

func main() {
	if err := run(os.Getenv("CNI_COMMAND")); err != nil {
		fmt.Fprintln(os.Stderr, "chaosplugin:", err)
		os.Exit(99) // no fault has this status: the test's own set-up is wrong
	}
}

func run(verb string) error {
	if verb == "VERSION" {
		fmt.Print(`{"cniVersion":"1.1.0","supportedVersions":["0.3.1","0.4.0","1.0.0","1.1.0"]}`)
		return nil
	}
	input, err := io.ReadAll(os.Stdin)
	if err != nil {
		return err
	}
	var conf config
	if err := json.Unmarshal(input, &conf); err != nil {
		return err
	}
	if conf.Chaos.From != "" {
		if conf.Chaos, err = read(conf.Chaos.From); err != nil {
			return err
		}
	}
	if err := conf.Chaos.dump(call{verb, os.Getenv("CNI_ARGS"), os.Getenv("CNI_NETNS"), input}); err != nil {
		return err
	}
	meant, err := conf.Chaos.meant(verb)
	if err != nil {
		return err
	}
	if meant {
		if err := conf.Chaos.behave(); err != nil {
			return err
		}
	}
	if verb != "ADD" {
		return nil
	}
	if conf.PrevResult == nil {
		conf.PrevResult = json.RawMessage(fmt.Sprintf(`{"cniVersion":%q}`, conf.CNIVersion))
	}
	_, err = os.Stdout.Write(conf.PrevResult)
	return err
}

// read is for a behaviour that changes while pods live: DEL has the configuration of ADD.
func read(path string) (c chaos, err error) {
	text, err := os.ReadFile(path)
	if os.IsNotExist(err) {
		return chaos{}, nil
	}
	if err != nil {
		return chaos{}, err
	}
	err = json.Unmarshal(text, &c)
	return c, err
}

func (c chaos) dump(called call) error {
	if c.Dump == "" {
		return nil
	}
	file, err := os.OpenFile(c.Dump, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer file.Close()
	return json.NewEncoder(file).Encode(called)
}

// meant tells whether the behaviour is for this call.
func (c chaos) meant(verb string) (bool, error) {
	if len(c.Verbs) > 0 && !slices.Contains(c.Verbs, verb) {
		return false, nil
	}
	if _, err := os.Stat(c.Until); c.Until != "" && err == nil {
		return false, nil
	}
	if c.Counter == "" {
		return true, nil
	}
	file, err := os.OpenFile(c.Counter, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return false, err
	}
	defer file.Close()
	if _, err := file.WriteString("."); err != nil {
		return false, err
	}
	stat, err := file.Stat()
	if err != nil {
		return false, err
	}
	return stat.Size() == int64(c.Call), nil
}

// behave returns where the plugin is to succeed, and ends it where not.
func (c chaos) behave() error {
	if c.Stubborn {
		signal.Ignore(syscall.SIGTERM)
	}
	if c.Child != "" {
		child := exec.Command("sleep", strings.TrimSuffix(c.Child, "s"))
		child.Stdout, child.Stderr = os.Stdout, os.Stderr
		if err := child.Start(); err != nil {
			return err
		}
	}
	if c.Sleep != "" {
		wait, err := time.ParseDuration(c.Sleep)
		if err != nil {
			return err
		}
		time.Sleep(wait)
	}
	fmt.Fprint(os.Stderr, c.Stderr)
	if c.Flood > 0 {
		flood := strings.Repeat("x", c.Flood)
		fmt.Fprint(os.Stderr, flood)
		fmt.Print(flood)
	}
	if !c.Fault {
		return nil
	}
	if c.Print != nil {
		fmt.Print(*c.Print)
	}
	if c.Code != 0 {
		fmt.Printf(`{"cniVersion":"1.1.0","code":%d,"msg":"chaos","details":"as told"}`, c.Code)
	}
	os.Exit(c.Exit)
	return nil
}
