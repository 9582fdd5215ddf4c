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

// A sight is what the clock of Redis showed at some time between two of this process.
type sight struct {
	begin, end time.Time
	redis      time.Time
}

// stale is when nobody knows any more what time it is there.
const stale = 10 * time.Second

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
	c.seen.Store(&sight{begin, end, time.Unix(seconds, micros*1000)})
	return nil
}

// now returns between which times it is by the clock of Redis. It moves on by the clock
// that no adjustment moves. It is an error if nobody knows, or if it is off by more than
// the skew.
func (c *clock) now(skew time.Duration) (earliest, latest time.Time, err error) {
	s := c.seen.Load()
	if s == nil || time.Since(s.end) > stale {
		return earliest, latest, errAway
	}
	if ahead := s.redis.Sub(s.begin.Round(0)); ahead.Abs() > skew {
		return earliest, latest, fmt.Errorf("the clock of Redis is %s ahead of this machine's, which is more than AUTHGEAR_CLOCK_SKEW: nothing is shared until both are right", ahead.Round(time.Millisecond))
	}
	return s.redis.Add(time.Since(s.end)), s.redis.Add(time.Since(s.begin)), nil
}

// earliest returns what time it is by the clock of this machine, or by that of Redis if it is
// earlier there: one of them may be far off.
func (c *clock) earliest() time.Time {
	now := time.Now()
	if s := c.seen.Load(); s != nil {
		if there := s.redis.Add(time.Since(s.end)); there.Before(now) {
			return there
		}
	}
	return now
}
