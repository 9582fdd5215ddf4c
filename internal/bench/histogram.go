//go:build linux

package main

import (
	"math/bits"
	"time"
)

// A histogram counts durations, each to within 2 %.
type histogram struct {
	counts [64 << fine]int64
	n      int64
}

const fine = 6 // a power of two has 1<<fine parts

func (h *histogram) add(d time.Duration) {
	h.counts[bucket(uint64(max(d, 0)))]++
	h.n++
}

// bucket keeps the fine bits behind the first one.
func bucket(v uint64) int {
	shift := max(bits.Len64(v)-fine-1, 0)
	return shift<<fine + int(v>>shift)
}

// least is the smallest value of a bucket.
func least(bucket int) time.Duration {
	shift := max(bucket>>fine-1, 0)
	return time.Duration(bucket-shift<<fine) << shift
}

// percentile is the least duration that so many of a hundred do not exceed.
func (h *histogram) percentile(of float64) time.Duration {
	left := int64(of / 100 * float64(h.n))
	for i, n := range h.counts {
		if left -= n; left < 0 {
			return least(i)
		}
	}
	return 0
}
