// Package sandboximage holds the image that sandboxes run when no other is
// configured: a pause process and a static ip, so that
// "docker exec ID ip addr" works in every pod. It is embedded in the binary,
// since a node must be able to start its first pod without a registry.
//
// make puts the files under rootfs/<architecture>; a binary built without them
// works with a configured image only.
package sandboximage
