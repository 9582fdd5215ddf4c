package main

import (
	"fmt"
	"math"
	"math/rand/v2"
	"strings"
	"time"
)

// A traffic is what users do.
type traffic struct {
	active float64       // share of the sessions that are in use at a time
	visit  time.Duration // how long one is in use, on average
	every  time.Duration // between two of its requests, on average
	token  time.Duration // for how long its JWT is good, and so remembered
}

var usual = traffic{active: 0.05, visit: 10 * time.Minute, every: 5 * time.Second, token: 30 * time.Minute}

// A setup is one row.
type setup struct {
	sessions, replicas int
	bound              time.Duration
	traffic
}

// worked are the rows of docs/fleet.md.
var worked = []setup{
	{10_000, 1, 30 * time.Second, usual},
	{10_000, 3, 30 * time.Second, usual},
	{100_000, 3, 30 * time.Second, usual},
	{1_000_000, 10, 30 * time.Second, usual},
	{1_000_000, 10, 2 * time.Minute, usual},
	{10_000_000, 30, 30 * time.Second, usual},
	{10_000_000, 100, 30 * time.Second, usual},
	{10_000_000, 100, 2 * time.Minute, usual},
	{10_000_000, 100, 5 * time.Minute, usual},
}

// What is known from measurements; a test holds the first.
const (
	redisBytes = 550 // that a value takes in Redis, with all that belongs to it
	entryBytes = 650 // that a session takes in a replica: docs/settings.md

	slowResolver = 400 // answers a second, of a real resolver on two cores
	fastResolver = 900
)

// A need is what a setup comes to, on average over time.
type need struct {
	requests  float64 // a second
	questions float64 // to Authgear, a second
	commands  float64 // to Redis, a second
	values    float64 // in Redis
	entries   float64 // in one replica
}

// needs plays visits of one session after another: what one of them costs, times how many
// begin in a second.
func (s setup) needs(redis bool) need {
	const visits = 4000
	r := rand.New(rand.NewPCG(1, 2))
	bound, every, length := s.bound.Seconds(), s.every.Seconds(), s.visit.Seconds()
	var n need
	for range visits {
		end := r.ExpFloat64() * length
		var requests []request
		for at := 0.0; at <= end; at += r.ExpFloat64() * every {
			requests = append(requests, request{at, r.IntN(s.replicas)})
		}
		m := newModel(r, s.replicas, bound, redis)
		m.play(requests, math.Inf(1))
		n.requests += float64(len(requests))
		n.questions += float64(m.questions)
		n.commands += float64(m.commands())
		n.values += m.held
		for _, memory := range m.replicas {
			if memory.known {
				n.entries += max(s.token.Seconds(), end) - memory.since
			}
		}
	}
	begin := float64(s.sessions) * s.active / length / visits // of each visit that was played, in a second
	n.requests *= begin
	n.questions *= begin
	n.commands *= begin
	n.values *= begin
	n.entries *= begin / float64(s.replicas)
	if redis {
		n.commands += 2 * float64(s.replicas) // XREAD and TIME
	}
	return n
}

// table is Markdown.
func table(rows []setup) string {
	var b strings.Builder
	fmt.Fprintln(&b, "| Sessions | Replicas | Bound | Requests/s | Questions/s without Redis | with Redis | Resolvers of two cores for that | Redis: commands/s | memory | Memory of one replica |")
	fmt.Fprintln(&b, "|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|")
	for _, s := range rows {
		alone, shared := s.needs(false), s.needs(true)
		cells := []string{thousands(float64(s.sessions)), thousands(float64(s.replicas)), duration(s.bound), about(alone.requests), about(alone.questions),
			about(shared.questions), resolvers(shared.questions), about(shared.commands), size(shared.values * redisBytes), size(shared.entries * entryBytes)}
		if s.replicas == 1 {
			cells[5], cells[6], cells[7], cells[8] = "–", resolvers(alone.questions), "–", "–"
		}
		fmt.Fprintf(&b, "| %s |\n", strings.Join(cells, " | "))
	}
	return b.String()
}

// about rounds to two digits: there is no more in it.
func about(v float64) string {
	if v < 10 {
		return fmt.Sprintf("%.1f", v)
	}
	unit := math.Pow(10, math.Floor(math.Log10(v))-1)
	return thousands(math.Round(v/unit) * unit)
}

// resolvers is how many answer so many questions, from fast ones to slow ones.
func resolvers(questions float64) string {
	least, most := math.Ceil(questions/fastResolver), math.Ceil(questions/slowResolver)
	if least == most {
		return thousands(least)
	}
	return thousands(least) + "–" + thousands(most)
}

func size(bytes float64) string {
	if bytes >= 1<<30 {
		return fmt.Sprintf("%.1f GiB", bytes/(1<<30))
	}
	return about(max(bytes/(1<<20), 1)) + " MiB"
}

func duration(d time.Duration) string {
	if d < time.Minute {
		return fmt.Sprintf("%.0fs", d.Seconds())
	}
	return fmt.Sprintf("%.0fm", d.Minutes())
}

func thousands(v float64) string {
	text := fmt.Sprintf("%.0f", v)
	for i := len(text) - 3; i > 0; i -= 3 {
		text = text[:i] + "," + text[i:]
	}
	return text
}
