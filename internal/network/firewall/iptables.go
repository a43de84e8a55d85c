package firewall

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"time"
)

// lockSeconds is how long iptables may wait for the xtables lock, which dockerd,
// kube-proxy and CNI plugins take as well.
const lockSeconds = "5"

// tool is one flavour of iptables for one IP family. The flavours have separate
// rules in the kernel, and a packet must pass both.
type tool struct {
	v6     bool
	legacy bool
}

func (t tool) base() string {
	if t.v6 {
		return "ip6tables"
	}
	return "iptables"
}

// String names the flavour as distributions name its command: iptables-nft,
// ip6tables-legacy.
func (t tool) String() string {
	if t.legacy {
		return t.base() + "-legacy"
	}
	return t.base() + "-nft"
}

// prefix finds the name that the flavour's commands start with. Where only one
// flavour is installed it is called plain iptables, and tells what it is in its
// version (in parentheses from 1.8 on; before, there was only legacy).
func (t tool) prefix(ctx context.Context) (string, error) {
	if _, err := exec.LookPath(t.String() + "-restore"); err == nil {
		return t.String(), nil
	}
	version, err := run(ctx, "", t.base(), "--version")
	if err != nil {
		return "", fmt.Errorf("no command for %s found, install iptables: %w", t, err)
	}
	if legacy := !strings.Contains(version, "(nf_tables)"); legacy != t.legacy {
		return "", fmt.Errorf("no command for %s found, %s is %s: install it, for its rules are in use",
			t, t.base(), strings.TrimSpace(version))
	}
	return t.base(), nil
}

// save reads one table.
func (t tool) save(ctx context.Context, table string) (savedTable, error) {
	prefix, err := t.prefix(ctx)
	if err != nil {
		return savedTable{}, err
	}
	text, err := run(ctx, "", prefix+"-save", "-t", table)
	if err != nil {
		return savedTable{}, err
	}
	return parseSave(text), nil
}

// restore applies a script in one transaction and leaves alone what it does not name.
func (t tool) restore(ctx context.Context, script string) error {
	prefix, err := t.prefix(ctx)
	if err != nil {
		return err
	}
	_, err = run(ctx, script, prefix+"-restore", "--noflush", "-w", lockSeconds)
	return err
}

// ensure makes own and the jumps to it stand.
func (t tool) ensure(ctx context.Context, own ownedChain) error {
	have, err := t.save(ctx, own.table)
	if err != nil {
		return err
	}
	script := own.script(have)
	if script == "" {
		return nil
	}
	return t.restore(ctx, script)
}

// remove deletes own and the jumps to it.
func (t tool) remove(ctx context.Context, own ownedChain) error {
	have, err := t.save(ctx, own.table)
	if err != nil {
		return err
	}
	return t.restore(ctx, own.removal(have))
}

// registered tells whether the kernel runs that table of the legacy flavour in this
// network namespace. To ask iptables-legacy itself would register it.
func (t tool) registered(table string) (bool, error) {
	family := "ip"
	if t.v6 {
		family = "ip6"
	}
	// Not /proc/net: that is the main thread's network namespace, and any goroutine
	// may have locked the main thread to visit a pod's.
	file := "/proc/thread-self/net/" + family + "_tables_names"
	text, err := os.ReadFile(file)
	if errors.Is(err, os.ErrNotExist) {
		return false, nil // a kernel without the legacy flavour
	}
	if err != nil {
		return false, fmt.Errorf("find legacy iptables: %w", err)
	}
	for name := range strings.FieldsSeq(string(text)) {
		if name == table {
			return true, nil
		}
	}
	return false, nil
}

// run executes a command and returns what it wrote to stdout.
func run(ctx context.Context, stdin, name string, args ...string) (string, error) {
	var stdout, stderr bytes.Buffer
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = strings.NewReader(stdin), &stdout, &stderr
	cmd.WaitDelay = time.Second
	if err := cmd.Run(); err != nil {
		if text := strings.TrimSpace(stderr.String()); text != "" {
			return "", fmt.Errorf("%s: %w: %s", strings.Join(cmd.Args, " "), err, text)
		}
		return "", fmt.Errorf("%s: %w", strings.Join(cmd.Args, " "), err)
	}
	return stdout.String(), nil
}
