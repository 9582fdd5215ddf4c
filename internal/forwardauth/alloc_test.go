//go:build !race

// Looking for races, sync.Pool forgets at random.

package forwardauth

import (
	"runtime/debug"
	"testing"
)

func TestARememberedCredentialAllocatesNothing(t *testing.T) {
	const n = 1000
	defer debug.SetGCPercent(debug.SetGCPercent(-1)) // which would empty the pools
	for _, r := range remembered {
		t.Run(r.name, func(t *testing.T) {
			serve := serveKept(t, r.query, r.field)
			count := func(n int) float64 { return testing.AllocsPerRun(10, func() { serve(times(n)) }) }
			if each := (count(n+1) - count(1)) / n; each > 0.1 { // ristretto tells its policy of 64 uses at once
				t.Errorf("%.2f allocations per request, want 0", each)
			}
		})
	}
}
