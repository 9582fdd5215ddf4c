package forwardauth

import (
	"context"
	"encoding/json"
	"errors"
	"net/netip"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/rs/zerolog"

	"authgear-forward-auth/internal/policy"
	"authgear-forward-auth/resolver"
)

// guest lacks whatever a policy may ask for.
var guest = &resolver.Session{UserID: "guest", Anonymous: resolver.True, Verified: resolver.False}

// lacking are the policies under which the guest meets a reason.
var lacking = map[resolver.Reason]string{
	resolver.OK:            "",
	resolver.MissingRole:   "?role=owner",
	resolver.MissingScope:  "?scope=orders",
	resolver.NotVerified:   "?verified",
	resolver.AnonymousUser: "?deny_anonymous",
	resolver.SignInTooOld:  "?signed_in_within=10m",
	resolver.WrongClient:   "?client_id=spa",
}

// A finding is a resolver that finds out always the same.
type finding struct {
	session *resolver.Session
	err     error
}

func (f finding) Resolve(context.Context, resolver.Credentials) (*resolver.Session, error) {
	return f.session, f.err
}

// ways are how a request may come to a reason: what is found out, and the policy.
func ways(reason resolver.Reason) (found []finding, queries []string) {
	add := func(s *resolver.Session, err error, query string) {
		found, queries = append(found, finding{s, err}), append(queries, query)
	}
	query, lacks := lacking[reason]
	switch reason {
	case resolver.ResolverUnavailable, resolver.KeysUnavailable, resolver.Overloaded:
		add(nil, &resolver.UnavailableError{Reason: reason, Err: errors.New("away")}, "")
	case resolver.BadPolicy:
		add(guest, nil, "?rolle=owner")
	case resolver.Visitor:
		add(&resolver.Session{}, nil, "?optional")
	case resolver.NoCredential:
		add(&resolver.Session{}, nil, "")
	default:
		if !lacks || reason == resolver.WrongClient {
			add(nil, &resolver.InvalidError{Reason: reason}, "")
		}
		if lacks {
			add(guest, nil, query)
		}
	}
	return found, queries
}

func TestThePageOfReasonsSaysWhatAClientGets(t *testing.T) {
	page, err := os.ReadFile("../../docs/reasons.md")
	if err != nil {
		t.Fatal(err)
	}
	sections := regexp.MustCompile("(?m)^## `(\\w+)`\n\n((?:>.*\n)+)").FindAllStringSubmatch(string(page), -1)
	if len(sections) < 20 {
		t.Fatalf("%d reasons in the page", len(sections))
	}
	for _, section := range sections {
		t.Run(section[1], func(t *testing.T) {
			var want, got []string
			for _, m := range regexp.MustCompile(`(?m)^> (\d+ ?\w*)`).FindAllStringSubmatch(section[2], -1) {
				want = append(want, m[1])
			}
			found, queries := ways(resolver.Reason(section[1]))
			for i, f := range found {
				got = append(got, answerTo(t, resolver.Reason(section[1]), f, queries[i]))
			}
			if !slices.Equal(got, want) {
				t.Errorf("a client gets %q, and the page says %q", got, want)
			}
		})
	}
}

// answerTo is the status and the error that a client gets.
func answerTo(t *testing.T, reason resolver.Reason, f finding, query string) string {
	t.Helper()
	log := make(events, 1)
	gate := &Gate{
		Resolver: func(policy.Rule) (resolver.Resolver, error) { return f, nil },
		Reader:   resolver.NewReader("", nil), Trusted: Trusted{netip.MustParsePrefix("127.0.0.0/8")}, Log: zerolog.New(log), Decided: All,
	}
	resp, body := send(t, listen(t, gate.Handler(plain), Body{}), request(query, "Authorization: Bearer x"))
	if got := <-log; !strings.Contains(got, `"reason":"`+string(reason)+`"`) {
		t.Fatalf("another reason: %s", got)
	}
	told := strconv.Itoa(resp.StatusCode)
	if body == "" {
		return told
	}
	var answer struct{ Error string }
	if err := json.Unmarshal([]byte(body), &answer); err != nil {
		t.Fatal(err)
	}
	return told + " " + answer.Error
}
