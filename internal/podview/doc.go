// Package podview is what "mascri pods", "mascri ps" and "mascri top" show: what a
// runtime tells of its pods and containers. It asks by CRI alone, so that it shows those
// of any runtime. It changes nothing.
package podview
