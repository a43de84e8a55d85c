//go:build tools

// Package cri keeps what critest needs in go.mod: it is a test binary, which go does
// not know as a tool.
package cri

import (
	_ "sigs.k8s.io/cri-tools/pkg/benchmark"
	_ "sigs.k8s.io/cri-tools/pkg/validate"
)
