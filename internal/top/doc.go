// Package top is "mascri top" on a terminal: what pods use, drawn anew with each sample
// and each key.
//
// The screen (screen.go) is a plain value that keys change and that is drawn as text, so
// that it can be tested without a terminal.
package top
