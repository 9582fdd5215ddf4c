package fleet

import "time"

// EventsRead returns when all events of the other replicas were known here last; zero if
// they never were.
func (f *Fleet) EventsRead() time.Time {
	if at := f.eventsRead.Load(); at != nil {
		return *at
	}
	return time.Time{}
}

// noteRead notes that all events of the other replicas are known here now.
func (f *Fleet) noteRead() {
	now := time.Now()
	f.eventsRead.Store(&now)
}

// Ahead returns by how much the clock of Redis is ahead of this machine's, if that is
// known.
func (f *Fleet) Ahead() (time.Duration, bool) {
	s := f.clock.seen.Load()
	if s == nil || time.Since(s.end) > stale {
		return 0, false
	}
	return s.redis.Sub(s.begin.Add(s.end.Sub(s.begin) / 2).Round(0)), true
}
