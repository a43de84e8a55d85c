// Package e2e tests the daemon as users meet it: the real binary on real Docker
// Engines with real CNI plugins and real iptables, over its socket and by crictl.
//
// All of it runs in mount, network and pid namespaces of its own (enginetest), so
// it touches nothing of the machine's Docker. `make build` must have run, for the
// CNI plugins, crictl and the engines.
package e2e
