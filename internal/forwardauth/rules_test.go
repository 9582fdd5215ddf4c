package forwardauth

import (
	"errors"
	"fmt"
	"io"
	"net/netip"
	"testing"

	"github.com/rs/zerolog"

	"authgear-forward-auth/internal/policy"
	"authgear-forward-auth/internal/turn/turntest"
	"authgear-forward-auth/resolver"
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

// Whoever tells who is asking may refuse a rule: what it promises cannot be kept.
func TestNobodyPassesByARuleThatCannotBeKept(t *testing.T) {
	gate := &Gate{Trusted: Trusted{netip.MustParsePrefix("127.0.0.0/8")}, Reader: resolver.NewReader("", nil), Log: zerolog.New(io.Discard), Decided: All,
		Resolver: func(policy.Rule) (resolver.Resolver, error) {
			return &resolver.InTurn{Next: population}, errors.New("Authgear confirms nothing here")
		}}
	addr := listen(t, gate.Handler(plain), Body{})
	for range 2 { // nor when it was met before
		if resp, _ := send(t, addr, request("?max_staleness=5s", "Authorization: Bearer ada")); resp.StatusCode != 500 {
			t.Errorf("status %d, want 500", resp.StatusCode)
		}
	}
}

// To read a policy takes long enough that those whose policy is known go first.
func TestANewPolicyTakesATurn(t *testing.T) {
	var r routes
	anybody := func(rule policy.Rule) (*route, error) { return &route{rule: rule}, nil }
	if _, err := r.get([]byte("role=known"), anybody); err != nil {
		t.Fatal(err)
	}
	read := func(query string) func() {
		return func() {
			if _, err := r.get([]byte(query), anybody); err != nil {
				t.Error(err)
			}
		}
	}
	turntest.Waits(t, read("role=known"), read("role=new"))
}
