package forwardauth

import (
	"sync/atomic"
	"unsafe"

	"github.com/valyala/fasthttp"

	"authgear-forward-auth/resolver"
)

// hot are the answers about the sessions that are asked about most, ready to be copied:
// to copy one costs a fifth of what it takes to set its fields. They are few, since one
// takes more memory than its session.
var hot hotAnswers

type hotAnswers [1024]hotSlot

type hotSlot struct {
	answer atomic.Pointer[hotAnswer]

	// What is asked about so many times with nothing else of the slot between takes the
	// place of the answer.
	next atomic.Pointer[resolver.Session]
	seen atomic.Int32
}

const oftenEnough = 8

// A hotAnswer is good for that very session: one that is confirmed anew is another one.
type hotAnswer struct {
	session *resolver.Session
	header  fasthttp.ResponseHeader
}

func (a *hotAnswers) slot(s *resolver.Session) *hotSlot {
	const spread = 0x9e3779b97f4a7c15 // 2⁶⁴ ÷ φ: addresses are multiples of a power of two
	return &a[uint64(uintptr(unsafe.Pointer(s)))*spread>>(64-10)]
}

// copyTo makes the fields of h those of the answer about s, if it is there.
func (a *hotAnswers) copyTo(h *fasthttp.ResponseHeader, s *resolver.Session) bool {
	answer := a.slot(s).answer.Load()
	if answer == nil || answer.session != s {
		return false
	}
	answer.header.CopyTo(h)
	return true
}

// offer keeps the fields of an answer about s if it is asked about often.
func (a *hotAnswers) offer(h *fasthttp.ResponseHeader, s *resolver.Session) {
	slot := a.slot(s)
	if slot.next.Load() != s {
		slot.next.Store(s)
		slot.seen.Store(1)
		return
	}
	if slot.seen.Add(1) < oftenEnough {
		return
	}
	answer := &hotAnswer{session: s}
	h.CopyTo(&answer.header)
	slot.answer.Store(answer)
	slot.next.Store(nil)
}
