package cache

import (
	"sync/atomic"

	"authgear-forward-auth/resolver"
)

// strangers remembers credentials that are worthless, and always were. Each has one place, by its
// key, and takes it from whoever was there: a flood of them costs no more than writing it down.
type strangers []atomic.Pointer[stranger]

type stranger struct {
	key resolver.Key
	*answer
}

const strangerBytes = 256 // with its answer

func newStrangers(bytes int64) strangers { return make(strangers, max(bytes/strangerBytes, 1)) }

func (s strangers) place(key resolver.Key) *atomic.Pointer[stranger] {
	return &s[key.Short()%uint64(len(s))]
}

// find returns why the credentials were worthless; nil if it is not known.
func (s strangers) find(key resolver.Key) *answer {
	if one := s.place(key).Load(); one != nil && one.key == key {
		return one.answer
	}
	return nil
}

func (s strangers) keep(key resolver.Key, a *answer) { s.place(key).Store(&stranger{key, a}) }
