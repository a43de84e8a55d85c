package network

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/containerd/errdefs"

	"github.com/mascri/mascri/internal/pod"
)

const (
	// addTimeout bounds ADD. A request's own deadline leaves addReserve, or half of
	// what is left if that is less, for cleaning up and for the answer.
	addTimeout = 90 * time.Second
	addReserve = 10 * time.Second
)

// Attach gives a sandbox its place on the chosen network, and returns it. After an
// error nothing is left of it, unless cleaning up failed, too: then the error says
// so, and the attachment stays, never Attached, until Detach succeeds.
//
// Errors are ErrAlreadyExists for a sandbox that has an attachment in any phase,
// ErrInvalidArgument for a request that can't be meant, ErrFailedPrecondition
// where the node's configuration must be mended first or another sandbox has the
// host port, ErrUnavailable where a plugin asks to try again later, and those of ctx.
func (n *Network) Attach(ctx context.Context, req pod.AttachRequest) (pod.Attachment, error) {
	rec, err := n.attach(ctx, req)
	if err != nil {
		return pod.Attachment{}, fmt.Errorf("attach sandbox %q: %w", req.SandboxID, err)
	}
	return rec.Attachment, nil
}

func (n *Network) attach(ctx context.Context, req pod.AttachRequest) (record, error) {
	unlock, err := n.locks.Lock(ctx, req.SandboxID)
	if err != nil {
		return record{}, err
	}
	defer unlock()
	if old, ok := n.record(req.SandboxID); ok {
		return record{}, fmt.Errorf("%s: it is %s: %w", old.origin(), old.Phase, errdefs.ErrAlreadyExists)
	}
	rec, err := n.plan(ctx, req)
	if err != nil {
		return record{}, err
	}
	if err := n.enter(ctx, req, &rec); err != nil {
		return record{}, err
	}
	if err := n.settleDefault(ctx, rec); err != nil {
		return record{}, afterCleaning(err, n.leave(rec))
	}
	if err := n.add(ctx, &rec); err != nil {
		err = fmt.Errorf("%s: %w", rec.origin(), err)
		return record{}, afterCleaning(err, n.undo(context.WithoutCancel(ctx), n.dels, rec, hasEnded))
	}
	return rec, nil
}

// plan makes the record of an attachment to be. It creates nothing.
func (n *Network) plan(ctx context.Context, req pod.AttachRequest) (record, error) {
	snap := n.current(ctx)
	if snap.chosen == nil {
		return record{}, fmt.Errorf("%w: %w", snap.none, errdefs.ErrFailedPrecondition)
	}
	net := snap.chosen
	if err := missing(findPlugins(net, n.cfg.BinDirs)); err != nil {
		return record{}, fmt.Errorf("%s: %w: %w", origin(net.list.Name, net.file), err, errdefs.ErrFailedPrecondition)
	}
	if err := n.noPodCIDR(net); err != nil {
		return record{}, fmt.Errorf("%w: %w", err, errdefs.ErrFailedPrecondition)
	}
	caps, err := capabilities(net, req, n.podCIDRs())
	if err != nil {
		return record{}, err
	}
	config, err := configFor(net, caps)
	if err != nil {
		return record{}, err
	}
	args, err := cniArgs(req)
	if err != nil {
		return record{}, err
	}
	return record{
		Version: recordVersion,
		Attachment: pod.Attachment{
			SandboxID:  req.SandboxID,
			Pod:        req.Namespace + "/" + req.Name,
			Phase:      pod.Attaching,
			Network:    net.list.Name,
			ConfigFile: net.file,
			NetnsPath:  n.pinPath(req.SandboxID),
			CreatedAt:  time.Now().UTC(),
		},
		Config:       config,
		IfName:       ifName,
		Args:         args,
		Capabilities: caps,
		BootID:       n.bootID,
	}, nil
}

// cniArgs are CNI_ARGS, in the order that other runtimes give. They are joined by
// ";" and "=", which nothing escapes.
func cniArgs(req pod.AttachRequest) ([][2]string, error) {
	args := [][2]string{
		{"IgnoreUnknown", "1"},
		{"K8S_POD_NAMESPACE", req.Namespace},
		{"K8S_POD_NAME", req.Name},
		{"K8S_POD_INFRA_CONTAINER_ID", req.SandboxID},
		{"K8S_POD_UID", req.UID},
	}
	for _, arg := range args {
		if strings.ContainsAny(arg[1], ";=\x00") {
			return nil, fmt.Errorf("%s %q: can't be told to CNI plugins, as it has one of ; = NUL: %w", arg[0], arg[1], errdefs.ErrInvalidArgument)
		}
	}
	return args, nil
}

// enter writes the record, pins the sandbox's network namespace and prepares it.
// After an error nothing is left.
func (n *Network) enter(ctx context.Context, req pod.AttachRequest, rec *record) error {
	ns, err := openNetns(ctx, req)
	if err != nil {
		return err
	}
	defer ns.Close()
	rec.NetnsInode = ns.inode
	if err := n.claim(*rec); err != nil {
		return err
	}
	if err := n.save(*rec); err != nil {
		return afterCleaning(err, n.forget(rec.SandboxID))
	}
	n.enterLedger(*rec)
	n.step("record")
	err = pin(ns, rec.NetnsPath)
	if err == nil {
		n.step("pin")
		err = prepare(ns, req.Sysctls)
	}
	if err != nil {
		return afterCleaning(err, n.leave(*rec))
	}
	return nil
}

// afterCleaning joins an error and that of undoing what was done until then.
func afterCleaning(err, undone error) error {
	if undone == nil {
		return err
	}
	return fmt.Errorf("%w; cleaning up failed, too: %w", err, undone)
}

// add runs the plugins and completes the record.
func (n *Network) add(ctx context.Context, rec *record) error {
	ctx, cancel := context.WithTimeout(ctx, addBudget(ctx))
	defer cancel()
	data, runs, err := n.runAdd(ctx, *rec)
	if err != nil {
		return err
	}
	n.step("add-done")
	addresses, err := podAddresses(data, rec.NetnsPath)
	if err != nil {
		return err
	}
	rec.Result, rec.Runs, rec.DNS = data, runs, resultDNS(data)
	for _, address := range addresses {
		rec.IPs = append(rec.IPs, address.Addr())
		rec.Subnets = append(rec.Subnets, address.Masked())
	}
	n.show(*rec) // so that its subnets count
	n.noteForwarding(n.cfg.Forward.Ensure(ctx, n.attachedSubnets()))
	complete := *rec
	complete.Phase = pod.Attached
	if err := n.save(complete); err != nil {
		return err
	}
	n.enterLedger(complete)
	*rec = complete
	n.step("complete")
	return nil
}

// runAdd returns the result, and how long each plugin took.
func (n *Network) runAdd(ctx context.Context, rec record) ([]byte, []pod.PluginRun, error) {
	release, err := n.adds.take(ctx)
	if err != nil {
		return nil, nil, fmt.Errorf("wait for other attachments: %w", err)
	}
	defer release()
	list, err := rec.list()
	if err != nil {
		return nil, nil, err
	}
	var runs []pod.PluginRun // libcni runs one plugin after the other
	cni := n.cni(&pluginExec{
		started: func() { n.step("add-start") },
		ran:     n.cfg.Ran,
		ended: func(plugin string, took time.Duration) {
			runs = append(runs, pod.PluginRun{Plugin: plugin, Milliseconds: float64(took.Microseconds()) / 1000})
		},
	})
	res, err := cni.AddNetworkList(ctx, list, rec.runtimeConf(rec.NetnsPath))
	if err != nil {
		return nil, nil, plain(err)
	}
	data, err := encodeResult(res)
	return data, runs, err
}

// addBudget is how long ADD may take under ctx.
func addBudget(ctx context.Context) time.Duration {
	deadline, ok := ctx.Deadline()
	if !ok {
		return addTimeout
	}
	left := time.Until(deadline)
	return min(left-min(addReserve, left/2), addTimeout)
}
