package pod

// LeakKind says what was left.
type LeakKind string

// The kinds of leaks.
const (
	LeakAddress    LeakKind = "address"    // a reservation of host-local; without an owner it is empty
	LeakUnreserved LeakKind = "unreserved" // the reverse: a pod's address that is not reserved
	LeakPin        LeakKind = "pin"
	LeakLink       LeakKind = "interface"
	LeakRules      LeakKind = "rules"
	LeakCache      LeakKind = "cache"  // a file of libcni
	LeakRecord     LeakKind = "record" // of a sandbox that the engine does not have
)

// Leak is something on the node that belongs to an attachment that is over, or that a
// present one lacks.
type Leak struct {
	Kind      LeakKind `json:"kind"`
	Network   string   `json:"network"`
	SandboxID string   `json:"sandboxId,omitempty"` // "": nobody's
	What      string   `json:"what"`                // a file, an interface, a chain
	Mended    bool     `json:"mended"`
	Error     string   `json:"error,omitempty"` // why it could not be mended
}
