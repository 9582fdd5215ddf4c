package forwardauth

import (
	"sync/atomic"
	"unsafe"

	"github.com/valyala/fasthttp"

	"authgear-forward-auth/resolver"
)

// alike are answers about sessions that differ only in who the user is and when they signed
// in, ready to be copied: to copy one and set these two costs half of what it takes to set
// all fields.
var alike alikes

type alikes [256]alikeSlot

type alikeSlot struct {
	answer atomic.Pointer[alikeAnswer]
	missed atomic.Uint32
}

// One in so many answers that are not there takes the place of the one that is.
const seldom = 64

type alikeAnswer struct {
	to     traits
	header fasthttp.ResponseHeader
}

// traits are what an answer tells of a session but who the user is and when they signed in.
type traits struct {
	anonymous, verified, canReauthenticate resolver.Fact
	roles, amr, clientID, scope            string
}

func traitsOf(s *resolver.Session) traits {
	return traits{s.Anonymous, s.Verified, s.CanReauthenticate, s.Roles, s.AMR, s.ClientID, s.Scope}
}

// slot finds a slot by where the texts are: sessions that have the same ones share them.
func (a *alikes) slot(t *traits) *alikeSlot {
	const spread = 0x9e3779b97f4a7c15 // 2⁶⁴ ÷ φ
	at := uint64(t.anonymous) | uint64(t.verified)<<2 | uint64(t.canReauthenticate)<<4
	for _, text := range [...]string{t.roles, t.amr, t.clientID, t.scope} {
		at = (at ^ uint64(uintptr(unsafe.Pointer(unsafe.StringData(text))))) * spread
	}
	return &a[at>>(64-8)]
}

// set makes the fields of h those of an answer about s: of h, only the status and
// Cache-Control are kept, which they all have in common.
func (a *alikes) set(h *fasthttp.ResponseHeader, s *resolver.Session) {
	t := traitsOf(s)
	slot := a.slot(&t)
	if answer := slot.answer.Load(); answer != nil && answer.to == t {
		answer.header.CopyTo(h)
		setUser(h, s)
		return
	}
	setIdentity(h, resolver.OK, s)
	if slot.missed.Add(1)%seldom == 1 {
		answer := &alikeAnswer{to: t}
		h.CopyTo(&answer.header)
		slot.answer.Store(answer)
	}
}
