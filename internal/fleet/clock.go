package fleet

import (
	"fmt"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/redis/rueidis"
)

// A clock knows what time it is by that of Redis.
type clock struct{ seen atomic.Pointer[sight] }

type sight struct {
	at    time.Time // of this process
	redis time.Time // at that time
}

const (
	slowest = 200 * time.Millisecond // an answer that took longer tells too little
	stale   = 10 * time.Second
)

// set notes the answer to TIME.
func (c *clock) set(begin, end time.Time, answer rueidis.RedisResult) error {
	texts, err := answer.AsStrSlice()
	if err != nil || len(texts) != 2 {
		return fmt.Errorf("the answer of Redis to TIME is none: %w", err)
	}
	seconds, err := strconv.ParseInt(texts[0], 10, 64)
	if err != nil {
		return fmt.Errorf("the answer of Redis to TIME is none: %w", err)
	}
	micros, err := strconv.ParseInt(texts[1], 10, 64)
	if err != nil {
		return fmt.Errorf("the answer of Redis to TIME is none: %w", err)
	}
	if took := end.Sub(begin); took < slowest {
		c.seen.Store(&sight{begin.Add(took / 2), time.Unix(seconds, micros*1000)})
	}
	return nil
}

// now returns the time by the clock of Redis. It moves on by the clock that no adjustment
// moves. It is an error if nobody knows, or if it is off by more than the skew.
func (c *clock) now(skew time.Duration) (time.Time, error) {
	s := c.seen.Load()
	if s == nil || time.Since(s.at) > stale {
		return time.Time{}, errAway
	}
	if ahead := s.redis.Sub(s.at.Round(0)); ahead.Abs() > skew {
		return time.Time{}, fmt.Errorf("the clock of Redis is %s ahead of this machine's, which is more than AUTHGEAR_CLOCK_SKEW: nothing is shared until both are right", ahead.Round(time.Millisecond))
	}
	return s.redis.Add(time.Since(s.at)), nil
}
