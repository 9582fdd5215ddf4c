package metrics

import (
	"testing"
	"time"

	"authgear-forward-auth/internal/policy"
	"authgear-forward-auth/resolver"
)

// BenchmarkDecision is what counting adds to an answer, but for a look at the clock.
func BenchmarkDecision(b *testing.B) {
	d := New("", 30*time.Second).Proxy("nginx")
	allow := policy.Verdict{Outcome: policy.Allow, Reason: resolver.OK}
	b.ReportAllocs()
	for b.Loop() {
		d.Add(7, allow, resolver.Hit, 12*time.Microsecond)
		d.Served(7, 9*time.Second)
	}
}
