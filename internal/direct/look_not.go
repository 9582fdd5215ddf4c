//go:build !linux

package direct

import "runtime"

// A Look lets others go first.
type Look struct{}

// Await lets others go first.
func (*Look) Await() { runtime.Gosched() }
