// Package pod holds MasCRI's nouns: what a sandbox is, where it stands on its
// networks, and what the engine can do. It is pure: no I/O, no clock, no locks.
// Every other package speaks in these types; adapters (engine, network, ...)
// import nothing else of the project.
//
// Values are immutable once built: whoever has one may share it between
// goroutines, nobody may change it or what it points to. This holds for the CRI
// messages inside, too.
package pod
