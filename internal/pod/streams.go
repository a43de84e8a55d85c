package pod

import "io"

// Streams are the ends of a process's input and output outside of its container. They
// are used until the call that they were given to returns, but for Stdin: a Read under
// way there is not waited for, so whoever made it ends it afterwards. Once the call's
// context ended, Writes must return.
type Streams struct {
	Stdin  io.Reader // nil: the process has none; its end is passed on
	Stdout io.Writer // nil: thrown away
	Stderr io.Writer // nil: thrown away; without use on a TTY, which has one output
	TTY    bool
	Resize <-chan TerminalSize // sizes of the TTY, the first one at once; nil: none
}

// TerminalSize is in characters.
type TerminalSize struct {
	Width  uint16
	Height uint16
}
