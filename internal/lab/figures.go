package lab

import (
	"slices"
	"time"
)

// Percentile is the least of the values that so many of a hundred do not exceed; 0 of
// none.
func Percentile(values []time.Duration, of int) time.Duration {
	sorted := slices.Sorted(slices.Values(values))
	if len(sorted) == 0 {
		return 0
	}
	return sorted[max(0, (len(sorted)*of+99)/100-1)]
}
