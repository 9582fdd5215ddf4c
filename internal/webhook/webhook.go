// Package webhook turns Authgear's events into "forget what was vouched for".
//
// Events tell of users, never of one session: who signs out, loses a session, or
// gets another role is not told. Authgear sends an event once, in no order, and
// not again if it gets lost. So events make answers fresh sooner; it is the age
// limit of what is remembered that holds. Contract §6.
package webhook

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"time"

	"github.com/valyala/fasthttp"

	"authgear-forward-auth/internal/turn"
)

// An Event is what an Authgear event means for remembered sessions.
type Event struct {
	User string

	// At is when Authgear made the event, in whole seconds of its clock: what
	// was vouched for within that second may be older than the event. It is
	// our own time if Authgear sent none that makes sense, and at most five
	// minutes ahead of it.
	At time.Time

	// Ends says that the user's sessions have ended. Otherwise what is known
	// of the user has changed.
	Ends bool
}

// MaxBody is how long a delivery may be, in bytes. Authgear's have one or two KiB. Who says
// that so much comes is given as much memory, whether or not it comes.
const MaxBody = 64 << 10

// The outcomes that are counted.
const (
	forgotten    = "forgotten"
	ignored      = "ignored" // nothing to forget
	duplicate    = "duplicate"
	malformed    = "malformed"
	badSignature = "bad_signature"
	tooLarge     = "too_large"
)

// Handler receives Authgear's deliveries. A delivery counts only if it is signed
// with one of the secrets that are in force as it comes; with none, nothing is
// accepted. It is answered 200
// after forget has returned for each user that it names; an event that came
// before is not told again.
//
// count is told the outcome (forgotten, ignored, duplicate, malformed,
// bad_signature, too_large) and the event's type, of a closed set: Authgear's
// names of the user events that are known here, "identity.*" for each of that
// family, "other" for the rest and for what could not be read. Both functions are
// called from many goroutines.
func Handler(secrets func() []string, forget func(Event), count func(kind, outcome string)) fasthttp.RequestHandler {
	r := &receiver{secrets: secrets, forget: forget}
	return func(ctx *fasthttp.RequestCtx) {
		if !ctx.IsPost() {
			ctx.Response.Header.Set(fasthttp.HeaderAllow, fasthttp.MethodPost)
			ctx.SetStatusCode(fasthttp.StatusMethodNotAllowed)
			return
		}
		kind, outcome := r.receive(ctx.Request.Body(), ctx.Request.Header.Peek("x-authgear-body-signature"))
		count(kind, outcome)
		ctx.SetStatusCode(status(outcome))
	}
}

// TooLong returns what counts a delivery of more than [MaxBody], which no Handler is given.
func TooLong(count func(kind, outcome string)) func() {
	return func() { count(other, tooLarge) }
}

func status(outcome string) int {
	switch outcome {
	case tooLarge:
		return fasthttp.StatusRequestEntityTooLarge
	case badSignature:
		return fasthttp.StatusUnauthorized
	case malformed:
		return fasthttp.StatusBadRequest
	}
	return fasthttp.StatusOK
}

type receiver struct {
	secrets func() []string
	forget  func(Event)
	seen    ids
}

func (r *receiver) receive(body, signature []byte) (kind, outcome string) {
	if len(body) > MaxBody {
		return other, tooLarge
	}
	if !r.signed(body, signature) { // first of all: nothing is read of what a stranger sends
		return other, badSignature
	}
	d, ok := read(body, time.Now())
	if !ok {
		return d.kind, malformed
	}
	if d.id != "" && !r.seen.add(string(body)) { // an id may come again, where Authgear's database was put back
		return d.kind, duplicate
	}
	if len(d.events) == 0 {
		return d.kind, ignored
	}
	for _, e := range d.events {
		r.forget(e)
	}
	return d.kind, forgotten
}

// signed tells whether the signature is the lower-case hex HMAC-SHA256 of the
// body. Authgear signs with one secret and has no overlap when it is changed, so
// any of ours will do; all are tried, so that the time does not tell which.
// Contract §6.
func (r *receiver) signed(body, signature []byte) bool {
	if len(signature) != hex.EncodedLen(sha256.Size) {
		return false
	}
	var t turn.Turn
	t.Take()
	defer t.Leave()
	found := false
	for _, secret := range r.secrets() {
		mac := hmac.New(sha256.New, []byte(secret))
		mac.Write(body)
		if hmac.Equal(hex.AppendEncode(nil, mac.Sum(nil)), signature) && secret != "" { // anyone can sign with an empty one
			found = true
		}
	}
	return found
}
