package forwardauth

import (
	"sync"

	"authgear-forward-auth/internal/policy"
)

// rules are the policies met so far, by the query that holds them. There are
// as many as routes; the bound is for whoever reaches the port and makes them up.
type rules struct {
	mu    sync.RWMutex
	known map[string]policy.Rule
}

const maxRules = 1024

func (r *rules) get(query []byte) (policy.Rule, error) {
	r.mu.RLock()
	rule, ok := r.known[string(query)]
	r.mu.RUnlock()
	if ok {
		return rule, nil
	}
	text := string(query)
	rule, err := policy.Parse(text)
	if err != nil {
		return policy.Rule{}, err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.known == nil {
		r.known = make(map[string]policy.Rule)
	}
	if len(r.known) < maxRules {
		r.known[text] = rule
	}
	return rule, nil
}
