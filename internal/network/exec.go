package network

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/containerd/errdefs"
	"github.com/containernetworking/cni/pkg/types"
	"github.com/containernetworking/cni/pkg/version"

	"github.com/mascri/mascri/internal/span"
)

const (
	// killDelay is what a plugin's process group gets between SIGTERM and SIGKILL,
	// and how long a process that outlives its plugin may hold the plugin's output.
	killDelay = 2 * time.Second
	// maxOutput bounds what a plugin may print; real results are a few KiB.
	maxOutput = 1 << 20
	// maxTail bounds what is kept of a plugin's stderr: its end.
	maxTail = 1 << 10
	// busyRetries and busyDelay wait for a plugin that is being replaced.
	busyRetries = 10
	busyDelay   = 100 * time.Millisecond
)

// pluginExec runs plugins for libcni, which waits for a plugin's output even when
// its context has ended: here, the plugin's whole process group is ended then.
type pluginExec struct {
	version.PluginDecoder
	started func() // called while a plugin runs, after its start; may be nil
	// ended is called after a plugin's end with the time that it took; may be nil.
	ended func(plugin string, took time.Duration)
	// ran is told of each run, also of one that did not start; may be nil. See Config.Ran.
	ran func(plugin, verb string, took time.Duration, failure string)
}

// FindInPath implements invoke.Exec.
func (*pluginExec) FindInPath(plugin string, dirs []string) (string, error) {
	path, err := findPlugin(plugin, dirs)
	if err != nil {
		return "", fmt.Errorf("%w: %w", err, errdefs.ErrFailedPrecondition)
	}
	return path, nil
}

// findPlugin returns the path of the first executable called plugin in dirs.
func findPlugin(plugin string, dirs []string) (string, error) {
	if plugin == "" || plugin == "." || plugin == ".." || strings.ContainsRune(plugin, os.PathSeparator) {
		return "", fmt.Errorf("plugin %q: not a plugin name", plugin)
	}
	var unfit []string
	for _, dir := range dirs {
		path := filepath.Join(dir, plugin)
		stat, err := os.Stat(path)
		switch {
		case errors.Is(err, os.ErrNotExist):
		case err != nil:
			unfit = append(unfit, err.Error())
		case !stat.Mode().IsRegular() || stat.Mode()&0o111 == 0:
			unfit = append(unfit, path+" is not executable")
		default:
			return path, nil
		}
	}
	problems := append(unfit, fmt.Sprintf("plugin %q not found in %s", plugin, strings.Join(dirs, ", ")))
	return "", errors.New(strings.Join(problems, "; "))
}

// ExecPlugin implements invoke.Exec. An error of the plugin is a *pluginError.
func (e *pluginExec) ExecPlugin(ctx context.Context, path string, stdin []byte, environ []string) ([]byte, error) {
	failed := &pluginError{plugin: filepath.Base(path), command: command(environ)}
	began := time.Now()
	ctx, end := span.Start(ctx, "CNI "+failed.command+" "+failed.plugin)
	output, err := e.exec(ctx, path, stdin, environ, failed)
	end(err)
	if e.ran != nil {
		e.ran(failed.plugin, failed.command, time.Since(began), failure(err))
	}
	return output, err
}

// failure is of a fixed list; "" for no error.
func failure(err error) string {
	failed := (*pluginError)(nil)
	switch {
	case err == nil:
		return ""
	case errors.Is(err, context.DeadlineExceeded):
		return "deadline"
	case errors.Is(err, context.Canceled):
		return "canceled"
	case errors.As(err, &failed) && failed.cause != nil:
		return "start"
	case errors.As(err, &failed) && failed.cni != nil:
		return "cni" // the plugin says so itself
	}
	return "crash" // or an output that makes no sense
}

func (e *pluginExec) exec(ctx context.Context, path string, stdin []byte, environ []string, failed *pluginError) ([]byte, error) {
	var stdout head
	var stderr tail
	began := time.Now()
	cmd, err := start(ctx, func() *exec.Cmd {
		cmd := exec.CommandContext(ctx, path)
		cmd.Env, cmd.Stdin, cmd.Stdout, cmd.Stderr = environ, bytes.NewReader(stdin), &stdout, &stderr
		cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
		cmd.Cancel = func() error { return signalGroup(cmd.Process.Pid, syscall.SIGTERM) }
		cmd.WaitDelay = killDelay
		return cmd
	})
	if err != nil {
		failed.cause = err
		return nil, failed
	}
	if e.started != nil {
		e.started()
	}
	err = cmd.Wait()
	if e.ended != nil {
		e.ended(failed.plugin, time.Since(began))
	}
	if errors.Is(err, exec.ErrWaitDelay) && ctx.Err() == nil {
		err = nil // the plugin succeeded, and left a process that holds its output
	}
	if err != nil && ctx.Err() != nil {
		// What ignored SIGTERM, or is a child of what did not.
		_ = signalGroup(cmd.Process.Pid, syscall.SIGKILL)
		failed.cause = ctx.Err()
	}
	failed.exit, failed.stderr = cmd.ProcessState.String(), stderr.String()
	return failed.judge(&stdout, err)
}

// start starts what build makes, again and again while its file is still open for
// writing: the plugin is being replaced.
func start(ctx context.Context, build func() *exec.Cmd) (*exec.Cmd, error) {
	for try := 0; ; try++ {
		cmd := build()
		err := cmd.Start()
		if !errors.Is(err, syscall.ETXTBSY) || try == busyRetries {
			return cmd, err
		}
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-time.After(busyDelay):
		}
	}
}

func signalGroup(pid int, signal syscall.Signal) error {
	err := syscall.Kill(-pid, signal)
	if errors.Is(err, syscall.ESRCH) {
		return os.ErrProcessDone
	}
	return err
}

// command is the CNI verb that environ asks for.
func command(environ []string) string {
	for _, entry := range environ {
		if verb, ok := strings.CutPrefix(entry, "CNI_COMMAND="); ok {
			return verb
		}
	}
	return ""
}

// pluginError is the failure of one plugin, with all that it said.
type pluginError struct {
	plugin  string
	command string       // the CNI verb
	exit    string       // such as "exit status 1"; "" if it did not start
	cni     *types.Error // what it printed as the CNI spec asks; may be nil
	output  string       // what it printed otherwise, or what is wrong with it
	stderr  string       // the tail
	cause   error        // may be nil
}

// judge turns a plugin's end into what libcni expects: its output, or failed.
func (failed *pluginError) judge(stdout *head, err error) ([]byte, error) {
	switch {
	case err != nil:
		failed.read(stdout)
		if failed.command == "DEL" && failed.cause == nil && failed.cni != nil && failed.cni.Code == types.ErrUnknownContainer {
			return nil, nil // "the runtime does not need to perform any container network cleanup"
		}
		return nil, failed
	case stdout.over:
		failed.output = fmt.Sprintf("printed more than %d bytes", maxOutput)
		return nil, failed
	case failed.command == "ADD":
		if err := checkResult(stdout.kept); err != nil {
			failed.output = err.Error()
			return nil, failed
		}
	}
	return stdout.kept, nil
}

// read takes what a failed plugin printed.
func (failed *pluginError) read(stdout *head) {
	var cni types.Error
	if err := json.Unmarshal(stdout.kept, &cni); err == nil && (cni.Code != 0 || cni.Msg != "") {
		failed.cni = &cni
		return
	}
	if len(stdout.kept) > 0 {
		failed.output = "printed " + quote(stdout.kept)
	}
}

func (failed *pluginError) Error() string {
	var b strings.Builder
	fmt.Fprintf(&b, "plugin %q %s:", failed.plugin, failed.command)
	sep := " "
	add := func(text string) {
		if text != "" {
			b.WriteString(sep + text)
			sep = ", "
		}
	}
	if failed.cause != nil {
		add(failed.cause.Error())
	}
	add(failed.exit)
	if failed.cni != nil {
		add(fmt.Sprintf("CNI code %d: %s", failed.cni.Code, failed.cni.Error()))
	}
	add(failed.output)
	if failed.stderr != "" {
		add(fmt.Sprintf("stderr: %q", failed.stderr))
	}
	return b.String()
}

// Unwrap gives the cause, the CNI error, and ErrUnavailable for "try again later".
func (failed *pluginError) Unwrap() []error {
	var errs []error
	if failed.cause != nil {
		errs = append(errs, failed.cause)
	}
	if failed.cni != nil {
		errs = append(errs, failed.cni)
		if failed.cni.Code == types.ErrTryAgainLater {
			errs = append(errs, errdefs.ErrUnavailable)
		}
	}
	return errs
}

// quote gives the beginning of what a plugin printed, for an error text.
func quote(output []byte) string {
	const enough = 200
	if len(output) <= enough {
		return fmt.Sprintf("%q", output)
	}
	return fmt.Sprintf("%q... (%d bytes)", output[:enough], len(output))
}

// head keeps the first maxOutput bytes written to it.
type head struct {
	kept []byte
	over bool
}

func (h *head) Write(p []byte) (int, error) {
	fit := min(len(p), maxOutput-len(h.kept))
	h.kept = append(h.kept, p[:fit]...)
	h.over = h.over || fit < len(p)
	return len(p), nil
}

// tail keeps the last maxTail bytes written to it.
type tail struct{ kept []byte }

func (t *tail) Write(p []byte) (int, error) {
	t.kept = append(t.kept, p[max(0, len(p)-maxTail):]...)
	t.kept = t.kept[max(0, len(t.kept)-maxTail):]
	return len(p), nil
}

func (t *tail) String() string { return strings.TrimSpace(string(t.kept)) }
