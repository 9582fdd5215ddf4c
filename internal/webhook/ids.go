package webhook

import (
	"crypto/sha256"
	"sync"
)

// remembered is how many ids of events are remembered.
const remembered = 8192

// ids are those of the last events. The zero value has none. They are kept as
// digests, so that long ones take no more memory.
type ids struct {
	mu     sync.Mutex
	known  map[digest]struct{}
	ring   []digest // all that are known
	oldest int      // in the ring, once it is full
}

type digest [sha256.Size]byte

// add remembers an id, in place of the oldest. It returns false if the id is
// known.
func (s *ids) add(id string) bool {
	d := digest(sha256.Sum256([]byte(id)))
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, found := s.known[d]; found {
		return false
	}
	if s.known == nil {
		s.known = make(map[digest]struct{})
	}
	if len(s.ring) < remembered {
		s.ring = append(s.ring, d)
	} else {
		delete(s.known, s.ring[s.oldest])
		s.ring[s.oldest] = d
		s.oldest = (s.oldest + 1) % remembered
	}
	s.known[d] = struct{}{}
	return true
}
