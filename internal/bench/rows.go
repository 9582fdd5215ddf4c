//go:build linux

package main

import (
	"errors"
	"fmt"
	"time"
)

// A row measures what belongs together in the table.
type row struct {
	name    string
	measure func(*stand) ([]line, error)
}

var rows = []row{
	{"idle", idle},
	{"start", starts},
	{"hot", hot},
	{"few", few},
	{"many", many},
	{"allocations", allocations},
	{"policy", withPolicy},
	{"policies", manyPolicies},
	{"unseen", unseen},
	{"latency", latency},
	{"confirmations", confirmations},
	{"strangers", strangers},
	{"nginx", behindNginx},
	{"owncache", ownCache},
}

func rowNames() (list []string) {
	for _, r := range rows {
		list = append(list, r.name)
	}
	return list
}

const (
	hour  = time.Hour // as good as no limit
	conns = 32        // that a proxy keeps, as the load does

	byCore = "answers per second of the server's core"
	path   = "/nginx"
)

// roomFor is the setting that lets n sessions be remembered.
func roomFor(n int) string {
	return fmt.Sprintf("AUTHGEAR_CACHE_BYTES=%d", max(64<<20, n*720))
}

// hot compares one credential, of each kind, with the bare handler.
func hot(st *stand) (lines []line, err error) {
	floor, err := st.floor(0)
	if err != nil {
		return nil, err
	}
	service, err := st.service(never)
	if err != nil {
		return nil, err
	}
	for _, k := range []kind{jwts(st.tokens), opaque, cookie} {
		one := questions(k, path, 1)
		if err := st.remember(service, one); err != nil {
			return nil, err
		}
		s := stream{requests: one, conns: conns}
		got, err := st.inTurn(st.short, floor.load(s), service.load(s))
		if err != nil {
			return nil, err
		}
		lines = append(lines, compared("remembered "+k.name+", one", got[0], got[1], atLeast(0.93), floor))
	}
	return lines, nil
}

// compared is a line about answers per second of the server's core.
func compared(work string, floor, service []sample, t target, of server) line {
	r := ratio(service, floor, busy)
	return line{work: work, measure: byCore + ", against the " + of.name, floor: rates(floor), subject: rates(service), ratio: &r, target: t}
}

// few compares some credentials, of each kind, with both floors.
func few(st *stand) (lines []line, err error) {
	bare, err := st.floor(0)
	if err != nil {
		return nil, err
	}
	for _, k := range []kind{jwts(st.tokens), opaque, cookie} {
		all := questions(k, path, st.few)
		lookup, service, err := st.remembering(all)
		if err != nil {
			return nil, err
		}
		s := stream{requests: all, conns: conns}
		got, err := st.inTurn(st.short, bare.load(s), lookup.load(s), service.load(s))
		if err != nil {
			return nil, err
		}
		work := fmt.Sprintf("remembered %s, %s", k.name, thousands(float64(st.few)))
		lines = append(lines, compared(work, got[0], got[2], atLeast(0.80), bare), compared(work, got[1], got[2], atLeast(0.97), lookup))
	}
	return lines, nil
}

// remembering starts a bare lookup and the service, which both remember the answers.
func (st *stand) remembering(all *requests) (lookup, service server, err error) {
	if lookup, err = st.floor(all.len()); err != nil {
		return lookup, service, err
	}
	if service, err = st.service(never, roomFor(all.len())); err != nil {
		return lookup, service, err
	}
	return lookup, service, errors.Join(st.remember(lookup, all), st.remember(service, all))
}

// many compares a great many credentials with the bare lookup, and with some. Each of
// the service's sessions is another user's.
func many(st *stand) (lines []line, err error) {
	for _, k := range []kind{opaque, cookie} {
		some, all := questions(k, path, st.few), questions(k, path, st.many)
		lookupFew, serviceFew, err := st.remembering(some)
		if err != nil {
			return nil, err
		}
		lookup, service, err := st.remembering(all)
		if err != nil {
			return nil, err
		}
		s, sFew := stream{requests: all, conns: conns}, stream{requests: some, conns: conns}
		got, err := st.inTurn(st.short, lookup.load(s), service.load(s), lookupFew.load(sFew), serviceFew.load(sFew))
		if err != nil {
			return nil, err
		}
		n := thousands(float64(st.many))
		lines = append(lines, compared("remembered "+k.name+", "+n, got[0], got[1], atLeast(0.95), lookup),
			growth(fmt.Sprintf("%s, %s → %s sessions", k.name, thousands(float64(st.few)), n), got))
		memory, err := st.memory("memory, "+n+" sessions by "+k.name, lookup, service)
		if err != nil {
			return nil, err
		}
		lines = append(lines, memory)
		for _, s := range []server{lookupFew, serviceFew, lookup, service} {
			s.processes[0].kill()
		}
	}
	return lines, nil
}

// growth tells what becomes of the throughput, beyond what becomes of that of the bare
// lookup. got are lookup and service with many, then with few.
func growth(work string, got [][]sample) line {
	floor, service := ratio(got[0], got[2], busy), ratio(got[1], got[3], busy)
	var beyond []float64
	for i := range got[0] {
		beyond = append(beyond, got[1][i].busy()/got[3][i].busy()/(got[0][i].busy()/got[2][i].busy()))
	}
	r := spreadOf(beyond)
	return line{work: work, measure: "what is left of the " + byCore, floor: fmt.Sprintf("%.2f", floor.median),
		subject: fmt.Sprintf("%.2f", service.median), ratio: &r, target: atLeast(0.90)}
}

func (st *stand) memory(work string, lookup, service server) (line, error) {
	floor, err := lookup.processes[0].resident()
	if err != nil {
		return line{}, err
	}
	ours, err := service.processes[0].resident()
	if err != nil {
		return line{}, err
	}
	each := func(size float64) float64 { return size / float64(st.many) }
	return line{work: work, measure: "resident memory ÷ sessions", floor: fmt.Sprintf("%.0f B", each(floor)),
		subject: fmt.Sprintf("%.0f B", each(ours)), value: each(ours), target: atMost(700, "B")}, nil
}

// withPolicy compares a role policy and logged denials with neither.
func withPolicy(st *stand) ([]line, error) {
	without, err := st.service(never, "AUTHGEAR_LOG_DECISIONS=none")
	if err != nil {
		return nil, err
	}
	with, err := st.service(never, "AUTHGEAR_LOG_DECISIONS=denied")
	if err != nil {
		return nil, err
	}
	k := jwts(st.tokens)
	plain, admins := questions(k, path, 1), questions(k, path+"?role=admin", 1)
	if err := errors.Join(st.remember(without, plain), st.remember(with, admins)); err != nil {
		return nil, err
	}
	got, err := st.inTurn(st.short, without.load(stream{requests: plain, conns: conns}), with.load(stream{requests: admins, conns: conns}))
	if err != nil {
		return nil, err
	}
	without.name = "service without"
	return []line{compared("a role policy, metrics, denials logged", got[0], got[1], atLeast(0.95), without)}, nil
}

// manyPolicies compares routes of as many policies with those of one.
func manyPolicies(st *stand) ([]line, error) {
	const n = 100
	service, err := st.service(never)
	if err != nil {
		return nil, err
	}
	k := jwts(st.tokens)
	routes := func(n int) *requests {
		r := &requests{}
		for i := range n {
			r.add(question(fmt.Sprintf("%s?role=admin&role=r%d", path, i), k.field(0)))
		}
		return r
	}
	one, all := routes(1), routes(n)
	if err := st.remember(service, all); err != nil {
		return nil, err
	}
	got, err := st.inTurn(st.short, service.load(stream{requests: one, conns: conns}), service.load(stream{requests: all, conns: conns}))
	if err != nil {
		return nil, err
	}
	service.name = "service with one"
	return []line{compared(fmt.Sprintf("1 → %d policies", n), got[0], got[1], atLeast(0.90), service)}, nil
}
