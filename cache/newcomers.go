package cache

import (
	"hash/maphash"
	"sync/atomic"
	"time"
)

// newcomers bounds how many new entries one user makes. Whoever has one good
// cookie can put any number of bad ones beside it, each time a question and an
// entry of its own, and so push everybody else's sessions out.
type newcomers struct {
	seed   maphash.Seed
	counts [1 << 14]atomic.Uint64 // by hash of the user: the minute, and how many in it
}

const newPerMinute = 64

func (n *newcomers) tooMany(user string, now time.Time) bool {
	slot := &n.counts[maphash.String(n.seed, user)%uint64(len(n.counts))]
	minute := uint64(now.Unix()/60) << 32
	if old := slot.Load(); old>>32<<32 != minute {
		slot.CompareAndSwap(old, minute)
	}
	return uint32(slot.Add(1)) > newPerMinute
}
