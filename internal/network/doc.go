// Package network gives sandboxes their place on CNI networks: it chooses the
// network configuration, pins a sandbox's network namespace, runs the plugins by
// libcni and keeps one durable record per attachment.
//
// A record is written before anything is created and is deleted after everything
// is undone, so that a crash at any point leaves a record from which Detach can
// undo what happened. CNI DEL always uses the record, never today's configuration
// (CNI spec 1.1.0, section 3, "Lifecycle & Ordering").
//
// All methods may be called at the same time. One sandbox is worked on by one
// call at a time, different sandboxes run in parallel. No lock is held while a
// plugin runs, other than that of its sandbox, and what is documented as "memory
// only" waits for no I/O.
package network
