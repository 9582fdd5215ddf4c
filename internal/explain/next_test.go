package explain

import (
	"slices"
	"testing"

	"authgear-forward-auth/resolver"
)

func TestEachReasonHasItsNextAction(t *testing.T) {
	for _, r := range resolver.Reasons {
		if next[r] == "" {
			t.Errorf("%s: nothing is said of what to do", r)
		}
	}
	for r := range next {
		if !slices.Contains(resolver.Reasons, r) {
			t.Errorf("%s is no reason", r)
		}
	}
}
