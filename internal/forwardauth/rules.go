package forwardauth

import (
	"maps"
	"sync"
	"sync/atomic"

	"authgear-forward-auth/internal/policy"
	"authgear-forward-auth/internal/turn"
	"authgear-forward-auth/resolver"
)

// A route is a policy, and who tells for it who is asking.
type route struct {
	rule      policy.Rule
	resolver  resolver.Resolver
	confirmed resolver.Resolver // of whom a 403 is told; nil: the other one
}

// routes are those met so far, by the query that holds their policy. There are
// as many as the operator wrote; the bound is for whoever reaches the port and
// makes them up.
type routes struct {
	known atomic.Pointer[map[string]*route] // replaced whole
	mu    sync.Mutex                        // for who replaces it
}

const maxRoutes = 1024

func (r *routes) get(query []byte, routeOf func(policy.Rule) (*route, error)) (*route, error) {
	if met := r.met(query); met != nil {
		return met, nil
	}
	var t turn.Turn
	t.Take()
	defer t.Leave()
	if met := r.met(query); met != nil { // by another one meanwhile
		return met, nil
	}
	text := string(query)
	rule, err := policy.Parse(text)
	if err != nil {
		return nil, err
	}
	made, err := routeOf(rule)
	if err != nil {
		return nil, err
	}
	r.add(text, made)
	return made, nil
}

func (r *routes) met(query []byte) *route {
	if known := r.known.Load(); known != nil {
		return (*known)[string(query)]
	}
	return nil
}

func (r *routes) add(query string, made *route) {
	r.mu.Lock()
	defer r.mu.Unlock()
	more := map[string]*route{query: made}
	if known := r.known.Load(); known != nil {
		if len(*known) >= maxRoutes {
			return
		}
		maps.Copy(more, *known)
	}
	r.known.Store(&more)
}
