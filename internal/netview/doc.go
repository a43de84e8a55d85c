// Package netview shows the node's pod network: what the attachment records of a daemon
// say, beside what the kernel has. It works with the daemon running or not, and changes
// nothing.
//
// Looking (view.go, kernel.go, inspect.go) and writing for people (*_text.go) are apart,
// so that what is shown can be tested without a node in that state.
package netview
