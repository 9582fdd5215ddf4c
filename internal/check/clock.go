package check

import (
	"context"
	"fmt"
	"time"
)

// A sample is the Date of an answer: some time between the question and the answer,
// in whole seconds.
type sample struct{ date, asked, answered time.Time }

// off is how far Authgear's clock is ahead of ours, at least; negative if it is
// behind; 0 if nothing says that they differ.
func (s sample) off() time.Duration {
	atLeast, atMost := s.date.Sub(s.answered), s.date.Add(time.Second).Sub(s.asked)
	return max(atLeast, 0) + min(atMost, 0)
}

// noticeable is a difference that a clock which is set by NTP never has.
const noticeable = 2 * time.Second

func (v *visit) clockSkew(ctx context.Context) finding {
	if v.clock == nil && v.Remote && v.failed["resolver"] == "" {
		v.get(ctx, v.ResolverURL, v.Endpoint.Host)
	}
	if v.clock == nil {
		return skipped("could not find out: there is no answer of Authgear with a Date")
	}
	off := v.clock.off()
	where := "behind"
	if off < 0 {
		where = "ahead of"
	}
	found := fmt.Sprintf("this machine's clock is %s or more %s Authgear's", off.Abs().Round(100*time.Millisecond), where)
	cure := "set the clock of this machine, or of Authgear's, by NTP: timedatectl set-ntp true"
	switch {
	case off.Abs() > v.ClockSkew:
		return fail(fmt.Sprintf("%s, and AUTHGEAR_CLOCK_SKEW is %s", found, v.ClockSkew), cure)
	case off.Abs() > noticeable:
		return warn(found, cure)
	}
	return pass("this machine's clock and Authgear's agree, as far as a Date in whole seconds tells")
}
