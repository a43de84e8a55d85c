// Package logs writes the CRI log files of workload containers: it follows the files
// that the engine's log driver "local" writes and appends each entry, in the form that
// the kubelet reads, to the container's log file.
//
// No entry is lost or doubled by a crash. Before a batch is appended, a small state file
// says from which place in the engine's files the batch is and how long the log file was.
// What is behind that length after a crash is what arrived of the batch: the same
// entries are formatted again, and so many bytes are left out.
//
// The engine's files are the only buffer: what can't be written waits there. Entries
// that the engine dropped before they were read leave a line in the log that says so.
//
// All methods of Follower may be called at the same time. Each container is followed by
// one goroutine, which alone touches its files; no lock is held across I/O.
package logs
