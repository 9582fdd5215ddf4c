package forwardauth

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"sync/atomic"
	"time"

	"github.com/rs/zerolog"

	"authgear-forward-auth/internal/policy"
	"authgear-forward-auth/resolver"
)

// Decisions are those that are logged.
type Decisions string

const (
	Denied Decisions = "denied" // and those that failed
	All    Decisions = "all"
	None   Decisions = "none"
)

// note writes one event for a decision, and remembers a denial for the operator. It is
// the only place that does.
func (g *Gate) note(log *zerolog.Logger, s *subrequest, d Dialect, took time.Duration) {
	denied := s.verdict.Outcome != policy.Allow
	if !denied && g.Decided != All {
		return
	}
	n := 0
	if denied {
		n = g.denied.next(s.begin)
	}
	if n == mostLines+1 && g.Decided == Denied {
		log.Warn().Int("limit", mostLines).Msg("more decisions in this second than are logged; AUTHGEAR_LOG_DECISIONS=all logs each")
	}
	if n > mostLines && g.Decided != All {
		return
	}
	decision := g.describe(s, d, took)
	if denied && n <= mostLines {
		g.recent.add(decision)
	}
	if g.Decided == None {
		return
	}
	e := log.Info()
	if s.verdict.Outcome == policy.Unavailable || s.verdict.Outcome == policy.Misconfigured {
		e = log.Error()
	}
	e.EmbedObject(decision).Msg("decided")
}

// mostLines is how many denials and failures are logged in a second. A flood of
// them would cost more in the log than in their answers.
const mostLines = 50

// A tally counts what happens in a second.
type tally struct{ state atomic.Uint64 } // the second, and behind it the count

// next returns how many there have been in this second.
func (t *tally) next(now time.Time) int {
	const bits = 24
	second := uint64(now.Unix()) & (1<<(64-bits) - 1)
	for {
		old, count := t.state.Load(), uint64(1)
		if old>>bits == second {
			count = min(old&(1<<bits-1)+1, 1<<bits-1)
		}
		if t.state.CompareAndSwap(old, second<<bits|count) {
			return int(count)
		}
	}
}

// secret makes what stands in logs for a credential useless outside of them.
var secret = rand.Text()

// pseudonym is a short name for a credential, by which one caller can be
// followed while this process lives.
func pseudonym(k resolver.Key) string {
	mac := hmac.New(sha256.New, []byte(secret))
	mac.Write(k[:])
	return hex.EncodeToString(mac.Sum(nil)[:6])
}
