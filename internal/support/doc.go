// Package support makes an archive of what somebody who is to help needs to know of a
// node, without the secrets that are in it.
package support
