//go:build linux

package main

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"time"
)

// A sample is what was measured once.
type sample struct {
	perSecond float64       // answers
	cost      time.Duration // of the server's core, for an answer
	loadCost  time.Duration // of the load's core
	p50, p99  time.Duration // the medians of those of each window
	pooled    time.Duration // the p99 of all together
}

// busy are the answers that a core of the server gives in a second when it does
// nothing else. As long as the server's core is the bottleneck, they are those
// that come.
func (s sample) busy() float64 { return float64(time.Second) / float64(s.cost) }

// A contender measures one of those that are compared, for so long.
type contender func(d time.Duration) (sample, error)

// load returns the contender that sends the first of the streams to a server, and
// the others beside it. Of the first each answer must be 200.
func (s server) load(streams ...stream) contender {
	return func(d time.Duration) (sample, error) {
		var before, after [2]time.Duration
		var errs [2]error
		out, err := driveBetween(s, d, func() { before, errs[0] = s.cpu() }, func() { after, errs[1] = s.cpu() }, streams...)
		if err != nil {
			return sample{}, fmt.Errorf("%s: %w", s.name, err)
		}
		if err := errors.Join(errs[:]...); err != nil {
			return sample{}, err
		}
		o := &out[0]
		if o.not200 > 0 || o.answers == 0 {
			return sample{}, fmt.Errorf("%s: %d of %d answers are not 200", s.name, o.not200, o.answers)
		}
		all := 0
		for i := range out {
			all += out[i].answers
		}
		return sample{
			perSecond: o.perSecond(),
			cost:      (after[0] - before[0]) / time.Duration(all),
			loadCost:  (after[1] - before[1]) / time.Duration(all),
			p50:       o.percentile(50),
			p99:       o.percentile(99),
			pooled:    o.pooled(99),
		}, nil
	}
}

// cpu returns the CPU time of the server, and of the load.
func (s server) cpu() (both [2]time.Duration, err error) {
	if both[0], err = cpuOf(s.processes); err != nil {
		return both, err
	}
	both[1], err = cpu(os.Getpid())
	return both, err
}

// inTurn measures each of the contenders in each round, after one that does not
// count.
func (b *bench) inTurn(t turns, contenders ...contender) ([][]sample, error) {
	samples := make([][]sample, len(contenders))
	for round := -1; round < t.rounds; round++ {
		for i, c := range contenders {
			if err := b.ctx.Err(); err != nil {
				return nil, err
			}
			s, err := c(t.each)
			if err != nil {
				return nil, err
			}
			if round >= 0 {
				samples[i] = append(samples[i], s)
			}
		}
	}
	return samples, nil
}

// A spread is the median of some values, with the quartiles.
type spread struct{ median, low, high float64 }

func spreadOf(values []float64) spread {
	v := slices.Sorted(slices.Values(values))
	n := len(v)
	return spread{(v[(n-1)/2] + v[n/2]) / 2, v[(n-1)/4], v[n-1-(n-1)/4]}
}

// ratio compares a measure of two contenders, round by round.
func ratio(of, to []sample, measure func(sample) float64) spread {
	values := make([]float64, len(of))
	for i := range of {
		values[i] = measure(of[i]) / measure(to[i])
	}
	return spreadOf(values)
}

// typical returns the median of a measure.
func typical(samples []sample, measure func(sample) float64) float64 {
	values := make([]float64, len(samples))
	for i, s := range samples {
		values[i] = measure(s)
	}
	return spreadOf(values).median
}

// worst returns the greatest of a measure.
func worst(samples []sample, measure func(sample) float64) (most float64) {
	for _, s := range samples {
		most = max(most, measure(s))
	}
	return most
}

// Measures of a sample.
var (
	busy      = sample.busy
	perSecond = func(s sample) float64 { return s.perSecond }
	cost      = func(s sample) float64 { return float64(s.cost) }
	loadCost  = func(s sample) float64 { return float64(s.loadCost) }
	p50       = func(s sample) float64 { return float64(s.p50) }
	p99       = func(s sample) float64 { return float64(s.p99) }
	pooled    = func(s sample) float64 { return float64(s.pooled) }
)
