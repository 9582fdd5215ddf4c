package forwardauth

import (
	"fmt"
	"strings"
	"testing"

	"github.com/valyala/fasthttp"

	"authgear-forward-auth/internal/policy"
	"authgear-forward-auth/resolver"
)

// An answer that is copied is the one that would be made, whatever was answered before.
func TestAnAnswerIsTheSameHoweverItIsMade(t *testing.T) {
	allow := policy.Verdict{Outcome: policy.Allow, Reason: resolver.OK}
	text := func(s *resolver.Session) string {
		var ctx fasthttp.RequestCtx
		answer(&ctx, plain, allow, &policy.Rule{}, s, "", nil)
		return withoutDate(&ctx.Response.Header)
	}
	var sessions []*resolver.Session
	texts := []string{"", "a", "b,c"}
	for i := range 4 * len(alike) { // so that some share a slot
		pick := func(n int) string { return texts[i/n%len(texts)] + strings.Repeat("x", i/100) }
		sessions = append(sessions, &resolver.Session{
			UserID: fmt.Sprint("user-", i), AuthenticatedAt: int64(i % 5), Anonymous: resolver.Fact(i % 3), Verified: resolver.Fact(i / 3 % 3),
			CanReauthenticate: resolver.Fact(i / 9 % 3), Roles: pick(1), AMR: pick(3), ClientID: pick(9), Scope: pick(27),
		})
	}
	for i := range 27 { // and some differ in one fact alone
		sessions = append(sessions, &resolver.Session{
			UserID: fmt.Sprint("alike-", i), Anonymous: resolver.Fact(i % 3), Verified: resolver.Fact(i / 3 % 3), CanReauthenticate: resolver.Fact(i / 9), Roles: "of all",
		})
	}
	for range 3 {
		for i, s := range sessions {
			var h fasthttp.ResponseHeader
			h.SetCanonical(cacheControl, noStore)
			setIdentity(&h, resolver.OK, s)
			for range 2 {
				if got, want := text(s), withoutDate(&h); got != want {
					t.Fatalf("session %d is answered\n%s\nnot\n%s", i, got, want)
				}
			}
		}
	}
}

// withoutDate returns the fields of an answer but Date.
func withoutDate(h *fasthttp.ResponseHeader) string {
	status, rest, _ := strings.Cut(h.String(), "\r\nDate: ")
	_, rest, _ = strings.Cut(rest, "\r\n")
	return status + "\n" + rest
}

// Sessions of which no two are alike make few answers to copy.
func TestWhereNobodyIsAlikeFewAnswersAreKept(t *testing.T) {
	var a alikes
	h := new(fasthttp.ResponseHeader)
	const each = 10 * seldom
	all := make([]*resolver.Session, each*len(a))
	for i := range all {
		all[i] = &resolver.Session{Roles: fmt.Sprint(i)}
	}
	i := 0
	if n := testing.AllocsPerRun(len(all)-1, func() { a.set(h, all[i]); i++ }); n > 0 {
		t.Errorf("%.0f allocations for each answer", n)
	}
	one := &resolver.Session{Roles: "admin"}
	for range seldom {
		a.set(h, one)
	}
	if n := testing.AllocsPerRun(10*seldom, func() { a.set(h, one) }); n > 0 {
		t.Errorf("%.0f allocations for each answer that is copied", n)
	}
	traits := traitsOf(one)
	if answer := a.slot(&traits).answer.Load(); answer == nil || answer.to != traits {
		t.Error("what is asked about often did not take the place of what was there")
	}
}
