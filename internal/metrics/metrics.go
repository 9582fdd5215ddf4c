// Package metrics counts what the service does, for Prometheus. No label holds what a
// client sent.
package metrics

import (
	"context"
	"errors"
	"math"
	"runtime"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"github.com/valyala/fasthttp"
	"github.com/valyala/fasthttp/fasthttpadaptor"

	"authgear-forward-auth/resolver"
)

const prefix = "authgear_forward_auth_"

// Metrics are all that is counted by one process.
type Metrics struct {
	registry  *prometheus.Registry
	decisions *decisions

	questions  *prometheus.CounterVec
	answerTime prometheus.Histogram
	asking     prometheus.Gauge
	keyFetches *prometheus.CounterVec
	events     *prometheus.CounterVec
	fleet      *prometheus.CounterVec
}

// New returns the metrics of a service that promises the bound; 0 if it promises none.
func New(version string, bound time.Duration) *Metrics {
	m := &Metrics{
		registry:  prometheus.NewRegistry(),
		decisions: newDecisions(bound),
		questions: counters("resolver_requests_total", "Questions to Authgear's resolver, by how they ended: valid, invalid, unavailable.", "outcome"),
		answerTime: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: prefix + "resolver_duration_seconds", Help: "How long a question to Authgear's resolver took.",
			Buckets: []float64{.001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10},
		}),
		asking:     prometheus.NewGauge(prometheus.GaugeOpts{Name: prefix + "resolver_in_flight", Help: "Questions that Authgear's resolver is being asked."}),
		keyFetches: counters("keys_fetch_total", "Fetches of the issuer's keys, by how they ended: ok, error.", "outcome"),
		events:     counters("webhook_events_total", "Deliveries to the webhook, by type of the event and what became of them.", "type", "outcome"),
		fleet:      counters("fleet_operations_total", "What this replica did with Redis, by what for and how it ended.", "operation", "outcome"),
	}
	for _, outcome := range []string{"valid", "invalid", "unavailable"} {
		m.questions.WithLabelValues(outcome)
	}
	for _, outcome := range []string{"ok", "error"} {
		m.keyFetches.WithLabelValues(outcome)
	}
	m.registry.MustRegister(m.decisions, m.questions, m.answerTime, m.asking, m.keyFetches, m.events, m.fleet,
		collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	m.gauge("build_info", "1, with the version.", prometheus.Labels{"version": version, "go_version": runtime.Version()}, func() float64 { return 1 })
	m.gauge("max_staleness_seconds", "The bound: no 200 rests on an older confirmation. 0 if Authgear confirms nothing.", nil, bound.Seconds)
	return m
}

func counters(name, help string, labels ...string) *prometheus.CounterVec {
	return prometheus.NewCounterVec(prometheus.CounterOpts{Name: prefix + name, Help: help}, labels)
}

func (m *Metrics) gauge(name, help string, labels prometheus.Labels, value func() float64) {
	m.registry.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: prefix + name, Help: help, ConstLabels: labels}, value))
}

// Memory is what a cache tells of itself.
type Memory interface {
	Bytes() int64      // that what is remembered takes
	Evictions() uint64 // of sessions, for want of room
}

// Watch shows the state of what is remembered, of the keys (nil: none are used) and
// whether Authgear is away (nil: it is not asked).
func (m *Metrics) Watch(remembered Memory, keysFetched func() time.Time, away func() bool) {
	m.gauge("cache_bytes", "Memory that the remembered sessions take.", nil, func() float64 { return float64(remembered.Bytes()) })
	m.registry.MustRegister(prometheus.NewCounterFunc(prometheus.CounterOpts{
		Name: prefix + "cache_evictions_total", Help: "Sessions that were forgotten, or not remembered, for want of room.",
	}, func() float64 { return float64(remembered.Evictions()) }))
	if keysFetched != nil {
		m.gauge("keys_age_seconds", "How long ago the keys in use were fetched; -1 before the first time.", nil, func() float64 {
			if at := keysFetched(); !at.IsZero() {
				return time.Since(at).Seconds()
			}
			return -1
		})
	}
	if away != nil {
		m.gauge("resolver_away", "1 while Authgear's resolver is asked only now and then, to see whether it is back.", nil, func() float64 {
			if away() {
				return 1
			}
			return 0
		})
	}
}

// Fleet is what a part of one tells of itself.
type Fleet interface {
	Troubles() []string           // why it does without the others
	EventsRead() time.Time        // the last time that all of the others' events were known; zero: never
	Ahead() (time.Duration, bool) // the clock of Redis, of this machine's, if it is known
}

// WatchFleet shows the state of this replica's part in a fleet.
func (m *Metrics) WatchFleet(f Fleet) {
	for _, operation := range []string{"look", "lease", "share", "publish", "receive"} {
		for _, outcome := range []string{"ok", "error"} {
			m.fleet.WithLabelValues(operation, outcome)
		}
	}
	m.fleet.WithLabelValues("publish", "lost")
	m.gauge("fleet_connected", "1 while this replica takes part in its fleet, 0 while it does without the others.", nil, func() float64 {
		if len(f.Troubles()) > 0 {
			return 0
		}
		return 1
	})
	m.gauge("fleet_events_age_seconds", "How long ago the events of the other replicas were read; -1 before the first time.", nil, func() float64 {
		if at := f.EventsRead(); !at.IsZero() {
			return time.Since(at).Seconds()
		}
		return -1
	})
	m.gauge("fleet_clock_ahead_seconds", "By how much the clock of Redis is ahead of this machine's; NaN while that is not known.", nil, func() float64 {
		if ahead, known := f.Ahead(); known {
			return ahead.Seconds()
		}
		return math.NaN()
	})
}

// Resolver counts what next, which asks Authgear, is asked.
func (m *Metrics) Resolver(next resolver.Resolver) resolver.Resolver { return counted{m, next} }

type counted struct {
	*Metrics
	next resolver.Resolver
}

func (c counted) Resolve(ctx context.Context, creds resolver.Credentials) (*resolver.Session, error) {
	c.asking.Inc()
	defer c.asking.Dec()
	begin := time.Now()
	s, err := c.next.Resolve(ctx, creds)
	if err != nil && resolver.ReasonOf(err) == resolver.MalformedCredential {
		return s, err // that was no question
	}
	c.answerTime.Observe(time.Since(begin).Seconds())
	outcome := "valid"
	switch {
	case errors.Is(err, resolver.ErrInvalid):
		outcome = "invalid"
	case err != nil:
		outcome = "unavailable"
	}
	c.questions.WithLabelValues(outcome).Inc()
	return s, err
}

// KeysFetched counts a fetch of keys.
func (m *Metrics) KeysFetched(err error) {
	outcome := "ok"
	if err != nil {
		outcome = "error"
	}
	m.keyFetches.WithLabelValues(outcome).Inc()
}

// Event counts a delivery to the webhook. Both are of closed sets.
func (m *Metrics) Event(kind, outcome string) { m.events.WithLabelValues(kind, outcome).Inc() }

// Fleet counts an operation on Redis. Both are of closed sets.
func (m *Metrics) Fleet(operation, outcome string) {
	m.fleet.WithLabelValues(operation, outcome).Inc()
}

// Handler serves the metrics.
func (m *Metrics) Handler() fasthttp.RequestHandler {
	return fasthttpadaptor.NewFastHTTPHandler(promhttp.HandlerFor(m.registry, promhttp.HandlerOpts{}))
}
