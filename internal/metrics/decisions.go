package metrics

import (
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"authgear-forward-auth/internal/policy"
	"authgear-forward-auth/resolver"
)

// decisions are counted for each proxy apart. They are on the way of each request, so
// counting takes no lock and no look at a label.
type decisions struct {
	bound   time.Duration
	proxies []*Decisions
}

// Decisions are those about the requests of one proxy.
type Decisions struct {
	proxy   string
	bound   time.Duration
	stripes [16]stripe // so that connections seldom count in the same memory
}

type stripe struct {
	verdicts [outcomes][reasons]atomic.Uint64
	lookups  [lookups]atomic.Uint64
	took     histogram
	age      histogram
	_        [64]byte
}

const (
	outcomes = 5
	reasons  = 32 // at most
	lookups  = 5
	buckets  = 20 // at most
)

// A histogram counts durations by bucket; what the last bucket does not hold, too.
type histogram struct {
	counts [buckets + 1]atomic.Uint64
	sum    atomic.Int64
}

// tookBuckets are where the buckets of decision_duration_seconds end.
var tookBuckets = []time.Duration{
	10 * time.Microsecond, 25 * time.Microsecond, 50 * time.Microsecond, 100 * time.Microsecond, 250 * time.Microsecond, 500 * time.Microsecond,
	time.Millisecond, 2500 * time.Microsecond, 5 * time.Millisecond, 10 * time.Millisecond, 25 * time.Millisecond, 50 * time.Millisecond,
	100 * time.Millisecond, 250 * time.Millisecond, 500 * time.Millisecond, time.Second, 2500 * time.Millisecond, 5 * time.Second,
}

// ageBuckets are so many of confirmation_age_seconds, each the same part of the bound.
const ageBuckets = 10

var reasonIndex = func() map[resolver.Reason]int {
	index := make(map[resolver.Reason]int)
	for i, r := range resolver.Reasons {
		index[r] = i
	}
	return index
}()

// Proxy returns where the decisions of a proxy are counted. Those of no Metrics at all
// are counted for nobody.
func (m *Metrics) Proxy(name string) *Decisions {
	if m == nil {
		return &Decisions{}
	}
	d := &Decisions{proxy: name, bound: m.decisions.bound}
	m.decisions.proxies = append(m.decisions.proxies, d)
	return d
}

// Add counts a decision that was asked for on a connection. It is called from many
// goroutines, and allocates nothing.
func (d *Decisions) Add(connection uint64, v policy.Verdict, l resolver.Lookup, took time.Duration) {
	s := &d.stripes[connection%uint64(len(d.stripes))]
	reason := 0
	if v.Reason != resolver.OK {
		reason = reasonIndex[v.Reason]
	}
	s.verdicts[v.Outcome][reason].Add(1)
	s.lookups[l].Add(1)
	bucket := 0
	for bucket < len(tookBuckets) && took > tookBuckets[bucket] {
		bucket++
	}
	s.took.add(bucket, took)
}

// Served counts the age of the confirmation that an answer rests on. One that came for
// this very request is younger than the request.
func (d *Decisions) Served(connection uint64, age time.Duration) {
	if d.bound <= 0 {
		return
	}
	age = max(age, 0)
	bucket := min((max(age, 1)-1)*ageBuckets/d.bound, ageBuckets)
	d.stripes[connection%uint64(len(d.stripes))].age.add(int(bucket), age)
}

func (h *histogram) add(bucket int, d time.Duration) {
	h.counts[bucket].Add(1)
	h.sum.Add(int64(d))
}

func newDecisions(bound time.Duration) *decisions { return &decisions{bound: bound} }

func describe(name, help string, labels ...string) *prometheus.Desc {
	return prometheus.NewDesc(prefix+name, help, labels, nil)
}

var (
	decided  = describe("decisions_total", "Requests that were decided, by proxy, verdict and reason code.", "proxy", "verdict", "reason")
	duration = describe("decision_duration_seconds", "How long a decision took, from the last byte of the request to the answer.")
	looked   = describe("sessions_total", "Decisions about credentials, by what was remembered: hit (a session), miss (nothing), refresh (a session that had to be confirmed first), negative (that they are worthless).", "result")
	served   = describe("confirmation_age_seconds", "How old Authgear's confirmation was that a session was answered on.")
)

// Describe is of [prometheus.Collector].
func (c *decisions) Describe(to chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{decided, duration, looked, served} {
		to <- d
	}
}

// Collect adds up what was counted. It is of [prometheus.Collector].
func (c *decisions) Collect(to chan<- prometheus.Metric) {
	var all total
	for _, d := range c.proxies {
		var verdicts [outcomes][reasons]uint64
		for i := range d.stripes {
			all.add(&d.stripes[i], &verdicts)
		}
		for o := range verdicts {
			for r, reason := range resolver.Reasons {
				outcome := policy.Outcome(o)
				fromStart := outcome == policy.Allow && reason == resolver.OK || outcome == policy.Misconfigured && reason == resolver.BadPolicy // who looks for an increase needs the 0
				if n := verdicts[o][r]; n > 0 || fromStart {
					to <- prometheus.MustNewConstMetric(decided, prometheus.CounterValue, float64(n), d.proxy, outcome.String(), string(reason))
				}
			}
		}
	}
	for _, l := range resolver.Lookups {
		to <- prometheus.MustNewConstMetric(looked, prometheus.CounterValue, float64(all.lookups[l]), l.String())
	}
	to <- all.took.metric(duration, tookBuckets)
	if c.bound > 0 {
		to <- all.age.metric(served, ageEnds(c.bound))
	}
}

// A total is the sum of stripes.
type total struct {
	lookups   [lookups]uint64
	took, age sum
}

type sum struct {
	counts [buckets + 1]uint64
	sum    time.Duration
}

func (t *total) add(s *stripe, verdicts *[outcomes][reasons]uint64) {
	for o := range verdicts {
		for r := range verdicts[o] {
			verdicts[o][r] += s.verdicts[o][r].Load()
		}
	}
	for l := range t.lookups {
		t.lookups[l] += s.lookups[l].Load()
	}
	t.took.add(&s.took)
	t.age.add(&s.age)
}

func (s *sum) add(h *histogram) {
	for i := range s.counts {
		s.counts[i] += h.counts[i].Load()
	}
	s.sum += time.Duration(h.sum.Load())
}

func (s *sum) metric(d *prometheus.Desc, ends []time.Duration) prometheus.Metric {
	cumulative, count := make(map[float64]uint64, len(ends)), uint64(0)
	for i, end := range ends {
		count += s.counts[i]
		cumulative[end.Seconds()] = count
	}
	return prometheus.MustNewConstHistogram(d, count+s.counts[len(ends)], s.sum.Seconds(), cumulative)
}

func ageEnds(bound time.Duration) (ends []time.Duration) {
	for i := range time.Duration(ageBuckets) {
		ends = append(ends, bound*(i+1)/ageBuckets)
	}
	return ends
}
