package pod

// LogSource tells where a workload container's output is and where its CRI log goes.
type LogSource struct {
	ID string // of the container
	// Directory is the engine's for this container, <root>/containers/<id>. Its log files
	// are in local-logs below, which the first start makes.
	Directory string
	Path      string // of the CRI log file, absolute
	// Root is the directory, above Path, that no symbolic link below it may lead out of. It
	// may be one itself.
	Root string
	// Running is whether the container runs now. One that ended, and whose log was complete,
	// is followed again only where this is set.
	Running bool
}
