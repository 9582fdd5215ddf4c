package forwardauth

import (
	"sync"

	"authgear-forward-auth/internal/policy"
	"authgear-forward-auth/resolver"
)

// A route is a policy, and who tells for it who is asking.
type route struct {
	rule     policy.Rule
	resolver resolver.Resolver
}

// routes are those met so far, by the query that holds their policy. There are
// as many as the operator wrote; the bound is for whoever reaches the port and
// makes them up.
type routes struct {
	mu    sync.RWMutex
	known map[string]*route
}

const maxRoutes = 1024

func (r *routes) get(query []byte, resolverFor func(policy.Rule) (resolver.Resolver, error)) (*route, error) {
	r.mu.RLock()
	known := r.known[string(query)]
	r.mu.RUnlock()
	if known != nil {
		return known, nil
	}
	text := string(query)
	rule, err := policy.Parse(text)
	if err != nil {
		return nil, err
	}
	to, err := resolverFor(rule)
	if err != nil {
		return nil, err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.known == nil {
		r.known = make(map[string]*route)
	}
	made := &route{rule, to}
	if len(r.known) < maxRoutes {
		r.known[text] = made
	}
	return made, nil
}
