// Package critest is what a run of critest, Kubernetes' conformance suite for container
// runtimes, takes besides a runtime: every image that its specs ask for, from a registry
// in the test process, and the judgement of what came of each spec.
//
// The images are composed of the machine's static busybox and of the small programs
// below this directory. Specs judge by what busybox, nginx and others write and are
// called, so theirs are made alike as far as a spec looks.
package critest
