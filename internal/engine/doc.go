// Package engine speaks to the Docker Engine over its API, for engines from 20.10
// (API 1.41). It and its sub-packages are the only importers of moby.
//
// An Engine sees the sandboxes of one MasCRI instance and nothing else: what carries no
// label of ours, one of a form that this build does not know, or that of another instance
// is never changed. Kill and Remove treat such a container as one that does not exist.
//
// Errors are of a containerd/errdefs kind, or context.Canceled or
// context.DeadlineExceeded. No type of moby leaves the package.
package engine
