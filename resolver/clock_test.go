package resolver_test

import (
	"testing"
	"time"
	"unsafe"

	"authgear-forward-auth/resolver"
)

// step returns the time that a machine would tell whose clock has been set by d, and whose
// monotonic clock has gone on.
func step(t time.Time, d time.Duration) time.Time {
	// A time with a monotonic reading has its seconds of the other clock above the lowest
	// 30 bits of the first word.
	*(*uint64)(unsafe.Pointer(&t)) += uint64(int64(d/time.Second)) << 30
	return t
}

func TestASteppedClockMakesNothingYounger(t *testing.T) {
	then := time.Now()
	now := then.Add(20 * time.Second)
	if s := step(now, 10*time.Minute); s.Sub(then) != 20*time.Second || s.Round(0).Sub(then.Round(0)) != 10*time.Minute+20*time.Second {
		t.Fatalf("the clock is not stepped: %s", s.Sub(then))
	}
	for _, c := range []struct {
		name string
		step time.Duration
		want time.Duration
	}{
		{"no step", 0, 20 * time.Second},
		{"ten minutes back: what was confirmed then is as old as it is", -10 * time.Minute, 20 * time.Second},
		{"ten minutes ahead: it may be that the machine slept", 10 * time.Minute, 10*time.Minute + 20*time.Second},
	} {
		if got := resolver.Age(then, step(now, c.step)); got != c.want {
			t.Errorf("%s: the age is %s, want %s", c.name, got, c.want)
		}
	}
}
