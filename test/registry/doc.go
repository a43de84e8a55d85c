// Package registry is an image registry inside of a test: over TLS by a certificate
// authority of its own, with and without credentials, able to stall and to fail. Its
// images are composed in the test process from the machine's static busybox.
//
// It is reached at an address that is no loopback address but leads nowhere else: Docker
// checks no certificate where a registry's name stands for 127.0.0.0/8. The test must run
// in a network namespace and with an /etc of its own, see enginetest.InNamespaces.
package registry
