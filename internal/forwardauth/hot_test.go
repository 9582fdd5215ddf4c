package forwardauth

import (
	"fmt"
	"strings"
	"testing"

	"github.com/valyala/fasthttp"

	"authgear-forward-auth/internal/policy"
	"authgear-forward-auth/resolver"
)

// An answer that is copied is the one that would be made.
func TestAnAnswerIsTheSameHoweverOftenItIsGiven(t *testing.T) {
	allow := policy.Verdict{Outcome: policy.Allow, Reason: resolver.OK}
	text := func(s *resolver.Session) string {
		var ctx fasthttp.RequestCtx
		answer(&ctx, plain, allow, &policy.Rule{}, s, "", nil)
		status, rest, _ := strings.Cut(ctx.Response.Header.String(), "\r\nDate: ")
		_, rest, _ = strings.Cut(rest, "\r\n")
		return status + "\n" + rest
	}
	var sessions []*resolver.Session
	for i := range 3 * len(hot) { // so that some share a slot
		sessions = append(sessions, &resolver.Session{UserID: fmt.Sprint("user-", i), Roles: "admin", AuthenticatedAt: int64(i)})
	}
	copied := 0
	for _, s := range sessions {
		first := text(s)
		for range 2 * oftenEnough {
			if again := text(s); again != first {
				t.Fatalf("first\n%s\nand then\n%s", first, again)
			}
		}
		if hot.copyTo(new(fasthttp.ResponseHeader), s) {
			copied++
		}
	}
	if copied != len(sessions) {
		t.Errorf("%d of %d answers are ready to be copied", copied, len(sessions))
	}
	for i, s := range sessions { // by now, most have lost their slot
		changed := *s
		changed.Roles = "none"
		if a, b := text(s), text(&changed); a == b {
			t.Fatalf("session %d is answered as it was before it changed:\n%s", i, b)
		}
	}
}

// What is asked about now and then does not take the place of what is asked about often.
func TestManySessionsMakeNoAnswersToCopy(t *testing.T) {
	var a hotAnswers
	h := new(fasthttp.ResponseHeader)
	one := make([]*resolver.Session, 20*len(a))
	for i := range one {
		one[i] = &resolver.Session{UserID: fmt.Sprint(i)}
	}
	for range 3 * oftenEnough {
		for _, s := range one {
			if !a.copyTo(h, s) {
				a.offer(h, s)
			}
		}
	}
	kept := 0
	for i := range a {
		if a[i].answer.Load() != nil {
			kept++
		}
	}
	if kept > len(a)/100 {
		t.Errorf("%d answers are kept", kept)
	}
}
