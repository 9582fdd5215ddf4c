//go:build linux

package main

import (
	"fmt"
	"time"
)

// latency compares the tail with that of the bare handler, at half of what that can do.
func latency(st *stand) ([]line, error) {
	floor, err := st.floor(0)
	if err != nil {
		return nil, err
	}
	service, err := st.service(never)
	if err != nil {
		return nil, err
	}
	all := questions(opaque, path, st.few)
	if err := st.remember(service, all); err != nil {
		return nil, err
	}
	full, err := floor.load(stream{requests: all, conns: conns})(st.long.each)
	if err != nil {
		return nil, err
	}
	s := stream{requests: all, conns: 2 * conns, rate: full.perSecond / 2}
	got, err := st.inTurn(st.short, floor.load(s), service.load(s))
	if err != nil {
		return nil, err
	}
	return []line{tail("remembered, half load of the bare handler", "against the bare handler", got[0], got[1], 1.3)}, nil
}

func tail(work, against string, floor, service []sample, limit float64) line {
	r := ratio(service, floor, p99)
	return line{work: work, measure: "p99, " + against, floor: latencies(floor), subject: latencies(service), ratio: &r, target: atMost(limit, "")}
}

const steady = 20_000 // requests of remembered sessions in a second, beside something else

// confirmations measures what remembered sessions notice of those that are confirmed
// behind. Each round has a new process, which learns of the sessions one by one: so
// they are confirmed one by one, too.
func confirmations(st *stand) ([]line, error) {
	const (
		perSecond = 2_000
		latest    = 0.8 // of the bound: a session in use is confirmed before
		usual     = 0.7
	)
	bound := max(5*st.long.each, time.Second)
	part := func(of float64) time.Duration { return time.Duration(of * float64(bound)) }
	all := questions(opaque, path, int(perSecond*part(usual).Seconds()))
	quiet, err := st.serviceThatAsksTheLoad(never)
	if err != nil {
		return nil, err
	}
	if err := st.remember(quiet, all); err != nil {
		return nil, err
	}
	s := stream{requests: all, conns: 2 * conns, rate: steady}
	asked, took := 0, time.Duration(0)
	confirmed := func(d time.Duration) (sample, error) {
		busy, err := st.serviceThatAsksTheLoad("AUTHGEAR_MAX_STALENESS=" + bound.String())
		if err != nil {
			return sample{}, err
		}
		defer busy.processes[0].kill()
		one := stream{requests: all, conns: 2 * conns, rate: perSecond, once: true}
		_, err = drive(busy, hour, one)
		if err == nil {
			_, err = drive(busy, part(latest)-part(usual)+bound/10, s) // until the first of all are due
		}
		if err != nil {
			return sample{}, err
		}
		before := st.asks.asked
		got, err := busy.load(s)(d)
		asked, took = asked+st.asks.asked-before, took+d
		return got, err
	}
	got, err := st.inTurn(st.long, quiet.load(s), confirmed)
	if err != nil {
		return nil, err
	}
	work := fmt.Sprintf("remembered, %s confirmations a second behind", thousands(float64(asked)/took.Seconds()))
	return []line{tail(work, "against quiet", got[0], got[1], 2)}, nil
}

// strangers measures what remembered sessions notice of bad tokens: of 20,000 a second, and
// of as many as those are for the machine on which the targets were set, of which a core
// made 139,000 answers of the bare handler.
func strangers(st *stand) (lines []line, err error) {
	const perSecond, there = 20_000, 139_000
	service, err := st.serviceThatAsksTheLoad(never)
	if err != nil {
		return nil, err
	}
	bare, err := st.floor(0)
	if err != nil {
		return nil, err
	}
	good := questions(opaque, path, st.few)
	if err := st.remember(service, good); err != nil {
		return nil, err
	}
	full, err := bare.load(stream{requests: good, conns: conns})(st.long.each)
	if err != nil {
		return nil, err
	}
	here := full.busy() / there
	for _, c := range []struct {
		part float64
		note string
	}{{1, ""}, {here, fmt.Sprintf(", as %s are on a machine as fast as %s a second", thousands(perSecond), thousands(there))}} {
		s := stream{requests: good, conns: 2 * conns, rate: steady * c.part}
		got, err := st.inTurn(st.long, service.load(s), service.load(s, st.bad(perSecond*c.part)))
		if err != nil {
			return nil, err
		}
		work := fmt.Sprintf("remembered, %s bad tokens a second beside%s", thousands(perSecond*c.part), c.note)
		lines = append(lines, tail(work, "against quiet", got[0], got[1], 2))
	}
	return lines, nil
}

// bad sends so many bad tokens a second. Those of one round have been forgotten in the next.
func (st *stand) bad(perSecond float64) stream {
	return stream{requests: badTokens(st.tokens[0], int(perSecond*st.long.each.Seconds())), conns: 512, rate: perSecond, once: true}
}
