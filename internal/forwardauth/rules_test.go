package forwardauth

import (
	"fmt"
	"testing"

	"authgear-forward-auth/internal/policy"
)

// Whoever reaches the port may make up policies. They are read, and not kept.
func TestPoliciesThatAreMadeUpDoNotFillTheMemory(t *testing.T) {
	var r routes
	anybody := func(rule policy.Rule) (*route, error) { return &route{rule: rule}, nil }
	for i := range 2 * maxRoutes {
		role := fmt.Sprintf("r%d", i)
		route, err := r.get([]byte("role="+role), anybody)
		if err != nil || route.rule.Roles[0] != role {
			t.Fatalf("%s: %+v, %v", role, route, err)
		}
	}
	if n := len(*r.known.Load()); n != maxRoutes {
		t.Errorf("%d policies are kept, want %d", n, maxRoutes)
	}
}
