package cache

import (
	"hash/maphash"
	"sync/atomic"

	"authgear-forward-auth/resolver"
)

// strangers remembers credentials that are worthless, and always were. Each has one place, and
// takes it from whoever was there: a flood of them costs no more than writing it down. What is
// there stays in memory until then.
type strangers struct {
	seed   maphash.Seed
	places []atomic.Pointer[stranger]
}

type stranger struct {
	key    resolver.Key
	answer *answer
}

const strangerBytes = 256 // with its answer

func newStrangers(bytes int64) *strangers {
	return &strangers{maphash.MakeSeed(), make([]atomic.Pointer[stranger], max(bytes/strangerBytes, 1))}
}

// place is found by a hash of its own: who shares one with whom can be seen by the time that answers
// take, and must tell nothing of the key.
func (s *strangers) place(key resolver.Key) *atomic.Pointer[stranger] {
	return &s.places[maphash.Bytes(s.seed, key[:])%uint64(len(s.places))]
}

// find returns why the credentials were worthless; nil if it is not known.
func (s *strangers) find(key resolver.Key) *answer {
	if one := s.place(key).Load(); one != nil && one.key == key {
		return one.answer
	}
	return nil
}

func (s *strangers) keep(key resolver.Key, a *answer) { s.place(key).Store(&stranger{key, a}) }
