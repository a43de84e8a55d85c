package pod

import "time"

// Change is what one sandbox or container was and what it became.
type Change struct {
	At  time.Time // when it was seen; later than that of any change before
	Old Item      // zero: there was none
	New Item      // zero: there is none any more

	// The pod after the change. Sandbox is the one that is gone where that is the change,
	// and nil where it went before.
	Sandbox    *Sandbox
	Containers []Container // newest first
}
