package resolver

import (
	"fmt"
	"slices"
	"strings"
	"time"
)

// The checks of a token but for its form and signature, in their order. found tells
// what is there, for an explanation; it is text of a stranger, so it is quoted and cut.
type checks[T any] []struct {
	name  string
	fails func(j *JWT, of *T, now time.Time) error
	found func(j *JWT, of *T, now time.Time) string
}

// check makes the checks until one fails.
func check[T any](all checks[T], j *JWT, of *T, now time.Time, t *Trace) error {
	for i := range all {
		err := all[i].fails(j, of, now)
		if t.Explains() {
			t.Note(all[i].name, err, all[i].found(j, of, now))
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// quoted is how text of a stranger is told.
func quoted(text string) string { return fmt.Sprintf("%.100q", text) }

var headerChecks = checks[header]{
	{"header members", (*JWT).onlyNames, func(*JWT, *header, time.Time) string { return "alg, typ and kid count" }},
	{"algorithm", (*JWT).algorithm, func(_ *JWT, h *header, _ time.Time) string { return "alg is " + quoted(h.Algorithm) }},
	{"type", (*JWT).accessToken, func(_ *JWT, h *header, _ time.Time) string { return "typ is " + quoted(h.Type) }},
	{"key id", (*JWT).namesKey, func(_ *JWT, h *header, _ time.Time) string { return "kid is " + quoted(h.KeyID) }},
}

// onlyNames: each of these would let the token choose its key or its meaning. RFC 8725
// §3.10, RFC 7515 §4.1.11, RFC 7797 §6.
func (*JWT) onlyNames(h *header, _ time.Time) error {
	if h.JWKSetURL != nil || h.Key != nil || h.X509URL != nil || h.X509Chain != nil || h.Critical != nil || h.Base64 != nil {
		return invalid(MalformedCredential, "the JWT has one of jku, jwk, x5u, x5c, crit, b64 in its header")
	}
	return nil
}

func (*JWT) algorithm(h *header, _ time.Time) error {
	if h.Algorithm != "RS256" {
		return invalid(WrongAlgorithm, "only RS256 is accepted")
	}
	return nil
}

func (*JWT) accessToken(h *header, _ time.Time) error {
	if !isAccessTokenType(h.Type) {
		return invalid(WrongType, "typ is not at+jwt: is it an ID token?")
	}
	return nil
}

func (*JWT) namesKey(h *header, _ time.Time) error {
	if h.KeyID == "" {
		return invalid(MalformedCredential, "the JWT names no key (kid)")
	}
	return nil
}

var claimChecks = checks[claims]{
	{"issuer", (*JWT).issuer, func(_ *JWT, c *claims, _ time.Time) string { return "iss is " + quoted(c.Issuer) }},
	{"audience", (*JWT).audience, func(_ *JWT, c *claims, _ time.Time) string { return "aud is " + quoted(strings.Join(c.Audience, " ")) }},
	{"required claims", (*JWT).complete, func(*JWT, *claims, time.Time) string { return "exp, iat, sub, client_id and jti" }},
	{"client", (*JWT).client, func(_ *JWT, c *claims, _ time.Time) string { return "client_id is " + quoted(c.ClientID) }},
	{"whose", (*JWT).ofSomebody, func(_ *JWT, c *claims, _ time.Time) string { return c.whose() }},
	{"characters", (*JWT).presentable, func(*JWT, *claims, time.Time) string { return "of the claims that become HTTP fields" }},
	{"times", (*JWT).times, (*JWT).describeTimes},
}

func (j *JWT) issuer(c *claims, _ time.Time) error {
	if c.Issuer != j.Issuer {
		return invalid(WrongIssuer, "iss is not AUTHGEAR_ENDPOINT")
	}
	return nil
}

func (j *JWT) audience(c *claims, _ time.Time) error {
	if !slices.ContainsFunc(c.Audience, func(a string) bool { return slices.Contains(j.Audiences, a) }) {
		return invalid(WrongAudience, "no aud of the token is in AUTHGEAR_AUDIENCES")
	}
	return nil
}

func (*JWT) complete(c *claims, _ time.Time) error {
	if c.Expiry == nil || c.IssuedAt == nil || c.Subject == "" || c.ClientID == "" || c.JWTID == "" {
		return invalid(MalformedCredential, "one of exp, iat, sub, client_id, jti is missing: is it an access token?")
	}
	return nil
}

func (j *JWT) client(c *claims, _ time.Time) error {
	if len(j.ClientIDs) > 0 && !slices.Contains(j.ClientIDs, c.ClientID) {
		return invalid(WrongClient, "client_id is not in AUTHGEAR_CLIENT_IDS")
	}
	return nil
}

func (*JWT) ofSomebody(c *claims, _ time.Time) error {
	switch {
	case c.Confirm != nil:
		return invalid(WrongType, "the token is bound to a key (cnf), and the proof of it cannot be checked here")
	case !c.machine() && c.Anonymous == nil:
		return invalid(WrongType, "not the token of a user: it lacks the is_anonymous claim")
	}
	return nil
}

func (c *claims) whose() string {
	if c.machine() {
		return "a machine's"
	}
	return "user " + quoted(c.Subject)
}

func (*JWT) presentable(c *claims, _ time.Time) error {
	if !c.presentable() {
		return invalid(MalformedCredential, "a claim has characters that no HTTP field may hold")
	}
	return nil
}

func (j *JWT) times(c *claims, now time.Time) error {
	const year9999 = 253402300799
	for _, t := range []*int64{c.Expiry, c.IssuedAt, c.NotBefore} {
		if t != nil && (*t < 0 || *t > year9999) {
			return invalid(MalformedCredential, "exp, iat or nbf is no time")
		}
	}
	latest := now.Add(j.Skew)
	switch {
	case !now.Before(time.Unix(*c.Expiry, 0).Add(j.Skew)):
		return invalid(Expired, "the application must get a new one with its refresh token")
	case time.Unix(*c.IssuedAt, 0).After(latest), c.NotBefore != nil && time.Unix(*c.NotBefore, 0).After(latest):
		return invalid(NotYetValid, "are the clocks of this machine and of Authgear right?")
	}
	return nil
}

// describeTimes tells the times of a token against this machine's clock.
func (j *JWT) describeTimes(c *claims, now time.Time) string {
	told := []string{"iat " + since(*c.IssuedAt, now), "exp " + since(*c.Expiry, now)}
	if c.NotBefore != nil {
		told = append(told, "nbf "+since(*c.NotBefore, now))
	}
	return strings.Join(told, ", ") + fmt.Sprintf(" (leeway %s)", j.Skew)
}

// since tells a time, and how far away it is.
func since(unix int64, now time.Time) string {
	d := now.Unix() - unix
	switch {
	case d > 1e10 || d < -1e10:
		return fmt.Sprint(unix)
	case d < 0:
		return fmt.Sprintf("in %s", time.Duration(-d)*time.Second)
	}
	return fmt.Sprintf("%s ago", time.Duration(d)*time.Second)
}
