package main

import (
	"math/rand/v2"
	"slices"
)

// A request of one credential, at a time in seconds, comes to a replica.
type request struct {
	at      float64
	replica int
}

// A model is that of one credential's confirmations, as packages cache and fleet make them.
// Nothing takes any time in it, and there is room for all.
type model struct {
	rand  *rand.Rand
	bound float64 // seconds
	redis bool

	replicas []memory
	shared   memory
	due      []due
	counts
}

// A due is a confirmation that waits for its time, though nobody may come, unless there is
// another one by then.
type due struct {
	request
	of float64 // the confirmation behind which it waits
}

// memory is what a replica, or Redis, knows of the credential.
type memory struct {
	known bool
	asked float64 // when Authgear was asked
	next  float64 // when it is confirmed again, behind a request
	since float64 // when it was remembered first
	until float64 // Redis: the end of the value
}

// counts are what it came to.
type counts struct {
	questions int     // to Authgear
	looks     int     // for a confirmation
	leases    int     // SET NX and another look, and in the end SET and DEL
	held      float64 // seconds in which Redis holds a value
}

// commands are those that Redis was given.
func (c counts) commands() int { return c.looks + 4*c.leases }

// As in cache/entry.go and cache/flight.go.
const (
	earliest = 0.6
	latest   = 0.8
)

func newModel(r *rand.Rand, replicas int, bound float64, redis bool) *model {
	return &model{rand: r, bound: bound, redis: redis, replicas: make([]memory, replicas)}
}

// play lets the requests come, in order, and what waits until the end.
func (m *model) play(requests []request, end float64) {
	for _, q := range requests {
		m.wait(q.at)
		m.request(q)
	}
	m.wait(end)
}

func (m *model) request(q request) {
	r := &m.replicas[q.replica]
	switch {
	case !r.known || q.at-r.asked > m.bound:
		m.confirm(q, max(q.at-m.bound, after(r)))
	case q.at >= r.next:
		m.confirm(q, max(q.at-earliest*m.bound, after(r)))
	}
}

// wait lets what is due until then be confirmed, if it was not meanwhile.
func (m *model) wait(until float64) {
	for len(m.due) > 0 {
		i := 0
		for j := range m.due {
			if m.due[j].at < m.due[i].at {
				i = j
			}
		}
		q := m.due[i]
		if q.at > until {
			return
		}
		m.due = slices.Delete(m.due, i, i+1)
		if r := &m.replicas[q.replica]; r.asked == q.of {
			m.confirm(q.request, max(q.at-earliest*m.bound, after(r)))
		}
	}
}

// after is a little later than the confirmation that will not do.
func after(r *memory) float64 {
	if !r.known {
		return -1e9
	}
	return r.asked + 1e-9
}

// confirm takes a confirmation from Redis that is late enough, or asks Authgear.
func (m *model) confirm(q request, notBefore float64) {
	asked := q.at
	if m.redis {
		m.looks++
	}
	if m.redis && m.shared.known && q.at < m.shared.until && m.shared.asked >= notBefore {
		asked = m.shared.asked
	} else {
		m.questions++
		m.share(q.at)
	}
	r := &m.replicas[q.replica]
	wait := m.bound * (earliest + (latest-earliest)*m.rand.Float64())
	if !r.known || asked-r.asked > 2*m.bound {
		m.due = append(m.due, due{request{q.at + wait, q.replica}, asked}) // Authgear prolongs a session at the second of two
	}
	if !r.known {
		r.known, r.since = true, q.at
	}
	r.asked, r.next = asked, asked+wait
}

func (m *model) share(at float64) {
	if !m.redis {
		return
	}
	m.leases++
	if m.held += m.bound; at < m.shared.until {
		m.held -= m.shared.until - at
	}
	m.shared = memory{known: true, asked: at, until: at + m.bound}
}
