package lab

import (
	"testing"
	"time"
)

func TestAPercentileIsOneOfTheValues(t *testing.T) {
	var values []time.Duration
	for i := range 200 {
		values = append(values, time.Duration(200-i))
	}
	for of, want := range map[int]time.Duration{0: 1, 50: 100, 99: 198, 100: 200} {
		if have := Percentile(values, of); have != want {
			t.Errorf("percentile %d of 1 to 200 is %d, want %d", of, have, want)
		}
	}
	if Percentile(nil, 99) != 0 {
		t.Error("of no values there is one")
	}
}
