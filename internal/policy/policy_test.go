package policy

import (
	"errors"
	"strings"
	"testing"
	"time"

	"authgear-forward-auth/resolver"
)

var (
	now            = time.Unix(1_800_000_000, 0)
	visitor        = &resolver.Session{}
	ada            = &resolver.Session{UserID: "ada", Anonymous: resolver.False, Verified: resolver.True, Roles: "admin,editor", AuthenticatedAt: now.Add(-time.Hour).Unix(), ClientID: "spa", Scope: "openid orders"}
	nobody         = &resolver.Session{UserID: "nobody", Anonymous: resolver.True, Verified: resolver.False}
	opaque         = &resolver.Session{UserID: "ada", Roles: "admin"}
	robot          = &resolver.Session{Machine: true, ClientID: "robot", Scope: "orders"}
	tomorrow       = &resolver.Session{UserID: "ada", AuthenticatedAt: now.Add(24 * time.Hour).Unix()}
	inMilliseconds = &resolver.Session{UserID: "ada", AuthenticatedAt: now.UnixMilli()}
	inAMinute      = &resolver.Session{UserID: "ada", AuthenticatedAt: now.Add(time.Minute).Unix()}
	expired        = &resolver.InvalidError{Reason: resolver.Expired}
	outage         = &resolver.UnavailableError{Reason: resolver.ResolverUnavailable, Err: errors.New("refused")}
)

func TestDecide(t *testing.T) {
	for _, tt := range []struct {
		name    string
		query   string
		session *resolver.Session
		err     error
		want    Verdict
	}{
		{"a signed-in user passes", "", ada, nil, Verdict{Allow, resolver.OK}},
		{"a visitor is challenged", "", visitor, nil, Verdict{Challenge, resolver.NoCredential}},
		{"a bad token is challenged", "", nil, expired, Verdict{Challenge, resolver.Expired}},
		{"an outage logs nobody out", "", nil, outage, Verdict{Unavailable, resolver.ResolverUnavailable}},
		{"an unknown error lets nobody in", "", nil, errors.New("?"), Verdict{Unavailable, resolver.ResolverUnavailable}},
		{"a visitor passes where sign-in is optional", "optional", visitor, nil, Verdict{Allow, resolver.Visitor}},
		{"a bad token passes as a visitor where sign-in is optional", "optional", nil, expired, Verdict{Allow, resolver.Expired}},
		{"an outage lets nobody in even where sign-in is optional", "optional", nil, outage, Verdict{Unavailable, resolver.ResolverUnavailable}},
		{"one of the roles is enough", "role=owner&role=editor", ada, nil, Verdict{Allow, resolver.OK}},
		{"a missing role is not a missing sign-in", "role=owner", ada, nil, Verdict{Forbid, resolver.MissingRole}},
		{"part of a role's name is not the role", "role=edit", ada, nil, Verdict{Forbid, resolver.MissingRole}},
		{"no role is no role", "role=owner", nobody, nil, Verdict{Forbid, resolver.MissingRole}},
		{"verified", "verified", ada, nil, Verdict{Allow, resolver.OK}},
		{"not verified", "verified", nobody, nil, Verdict{Forbid, resolver.NotVerified}},
		{"unknown is not verified", "verified", opaque, nil, Verdict{Forbid, resolver.NotVerified}},
		{"anonymous", "deny_anonymous", nobody, nil, Verdict{Forbid, resolver.AnonymousUser}},
		{"unknown may be anonymous", "deny_anonymous", opaque, nil, Verdict{Forbid, resolver.AnonymousUser}},
		{"signed in recently", "signed_in_within=61m", ada, nil, Verdict{Allow, resolver.OK}},
		{"signed in too long ago", "signed_in_within=59m", ada, nil, Verdict{Forbid, resolver.SignInTooOld}},
		{"signed in at an unknown time", "signed_in_within=59m", opaque, nil, Verdict{Forbid, resolver.SignInTooOld}},
		{"signed in at an unknown time, where any time will do", "signed_in_within=876000h", opaque, nil, Verdict{Forbid, resolver.SignInTooOld}},
		{"signed in tomorrow", "signed_in_within=59m", tomorrow, nil, Verdict{Forbid, resolver.SignInTooOld}},
		{"signed in in milliseconds", "signed_in_within=59m", inMilliseconds, nil, Verdict{Forbid, resolver.SignInTooOld}},
		{"signed in in a minute, by another clock", "signed_in_within=59m", inAMinute, nil, Verdict{Allow, resolver.OK}},
		{"the client", "client_id=x&client_id=spa", ada, nil, Verdict{Allow, resolver.OK}},
		{"another client", "client_id=x", ada, nil, Verdict{Forbid, resolver.WrongClient}},
		{"an unknown client", "client_id=spa", opaque, nil, Verdict{Forbid, resolver.WrongClient}},
		{"every scope", "scope=openid&scope=orders", ada, nil, Verdict{Allow, resolver.OK}},
		{"one scope of two", "scope=openid&scope=admin", ada, nil, Verdict{Forbid, resolver.MissingScope}},
		{"a machine is not a user", "", robot, nil, Verdict{Challenge, resolver.MachineToken}},
		{"a machine is a visitor where sign-in is optional", "optional", robot, nil, Verdict{Allow, resolver.MachineToken}},
		{"a machine where machines may pass", "machine&deny_anonymous&scope=orders", robot, nil, Verdict{Allow, resolver.OK}},
		{"a user where machines may pass too", "machine", ada, nil, Verdict{Allow, resolver.OK}},
		{"preflight is for preflights alone", "preflight", visitor, nil, Verdict{Challenge, resolver.NoCredential}},
		{"a role beside preflight", "role=owner&preflight", ada, nil, Verdict{Forbid, resolver.MissingRole}},
		{"where to sign in lets nobody in", "sign_in=/login", visitor, nil, Verdict{Challenge, resolver.NoCredential}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			rule, err := Parse(tt.query)
			if err != nil {
				t.Fatalf("Parse(%q): %v", tt.query, err)
			}
			if got := rule.Decide(tt.session, tt.err, now); got != tt.want {
				t.Errorf("Decide(%+v, %v) under %q = %v, want %v", tt.session, tt.err, tt.query, got, tt.want)
			}
		})
	}
}

func TestASlipInThePolicyIsAnError(t *testing.T) {
	for _, query := range []string{
		"rolle=admin", "role", "role=", "role=a,b", "role=a%20b", "role=%zz", "role=a%00", "role=%C3%A9", "scope=a%0D%0Ab", "client_id=%7F", "optional=no", "optional&",
		"signed_in_within=10", "signed_in_within=0s", "signed_in_within=-1m", "signed_in_within=1m&signed_in_within=2m", "ROLE=a", "&",
		"max_staleness", "max_staleness=5", "max_staleness=-1s", "max_staleness=0s&max_staleness=5s",
		"preflight=1", "sign_in", "sign_in=", "sign_in=login", "sign_in=//evil.example", "sign_in=https://evil.example/login", "sign_in=/a?b", "sign_in=/a%23b",
		"sign_in=/a%5Cb", "sign_in=/a%0d%0ab", "sign_in=/a%2520b", "sign_in=/a&sign_in=/b", "optional&sign_in=/login", "sign_in=/login&optional",
	} {
		if rule, err := Parse(query); err == nil {
			t.Errorf("Parse(%q) = %+v, want an error", query, rule)
		}
	}
}

// Whoever reaches the port may make policies up, which are logged.
func TestALongPolicyTakesLittle(t *testing.T) {
	for _, query := range []string{strings.Repeat("role=admin&", 400) + "role=admin", strings.Repeat("x&", maxLength/2-1)} {
		if rule, err := Parse(query); err == nil || len(err.Error()) > 1024 {
			t.Errorf("Parse(%.20s…) = %+v, %.2000v, want a short error", query, rule, err)
		}
	}
	if _, err := Parse(strings.Repeat("role=administrator&", 200) + "role=admin"); err != nil {
		t.Errorf("201 roles: %v", err)
	}
}

func TestTheLeastStalenessIsNotNone(t *testing.T) {
	for query, want := range map[string]time.Duration{"": 0, "max_staleness=0s": 1, "max_staleness=5s": 5 * time.Second} {
		if rule, err := Parse(query); err != nil || rule.MaxStaleness != want {
			t.Errorf("Parse(%q) = %+v, %v, want %s", query, rule, err, want)
		}
	}
}

func TestAPreflightAndTheSignIn(t *testing.T) {
	rule, err := Parse("role=admin&preflight&sign_in=/account/sign-in")
	if err != nil || !rule.Preflight || rule.SignIn != "/account/sign-in" {
		t.Errorf("Parse = %+v, %v", rule, err)
	}
	if rule, err := Parse("role=admin"); err != nil || rule.Preflight || rule.SignIn != "" {
		t.Errorf("Parse = %+v, %v, want neither", rule, err)
	}
}

func TestTheZeroVerdictLetsNobodyIn(t *testing.T) {
	if (Verdict{}).Outcome == Allow {
		t.Error("the zero Verdict allows")
	}
}
