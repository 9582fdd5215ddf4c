package resolver

import (
	"context"
	"encoding/base64"
	"slices"
	"strings"
	"time"

	"github.com/go-jose/go-jose/v4/json" // refuses duplicate members and names in another letter case
	"github.com/golang-jwt/jwt/v5"
)

// JWT resolves JWT access tokens of Authgear (RFC 9068) without asking
// Authgear. It tells what was true when the token was issued: it cannot see a
// sign-out, a disabled user or a changed role.
//
// The order of the checks puts what costs little first, so that a stranger's
// token costs no signature check and never a fetch of keys.
type JWT struct {
	Issuer    string   // exactly the iss claim
	Audiences []string // at least one of them is in aud
	ClientIDs []string // the accepted client_id values; empty accepts all
	Skew      time.Duration
	Keys      *Keys
}

// Resolve returns the session that the token describes. Credentials that are
// not one single JWT are [ErrNotMine].
func (j *JWT) Resolve(ctx context.Context, c Credentials) (*Session, error) {
	if len(c.List) != 1 || !c.List[0].IsJWT() {
		return nil, ErrNotMine
	}
	t, err := parseToken(c.List[0].Value)
	if err != nil {
		return nil, err
	}
	if err := t.header.check(); err != nil {
		return nil, err
	}
	if err := j.checkClaims(&t.claims, time.Now()); err != nil {
		return nil, err
	}
	key, err := j.Keys.Key(ctx, t.header.KeyID)
	if err != nil {
		return nil, err
	}
	// RFC 8725 §3.1: the algorithm is ours; the token's was only compared with it.
	if err := jwt.SigningMethodRS256.Verify(t.signed, t.signature, key); err != nil {
		return nil, invalid(BadSignature, "")
	}
	return t.claims.session(), nil
}

// A token is a JWT in compact serialization, taken apart but not verified.
type token struct {
	header    header
	claims    claims
	signed    string // what the signature is over
	signature []byte
}

type header struct {
	Algorithm string `json:"alg"`
	KeyID     string `json:"kid"`
	Type      string `json:"typ"`

	// Each of these would let the token choose its key or its meaning.
	// RFC 8725 §3.10, RFC 7515 §4.1.11, RFC 7797 §6.
	JWKSetURL json.RawMessage `json:"jku"`
	Key       json.RawMessage `json:"jwk"`
	X509URL   json.RawMessage `json:"x5u"`
	Critical  json.RawMessage `json:"crit"`
	Base64    json.RawMessage `json:"b64"`
}

type claims struct {
	Issuer    string          `json:"iss"`
	Subject   string          `json:"sub"`
	Audience  audience        `json:"aud"`
	Expiry    *int64          `json:"exp"`
	NotBefore *int64          `json:"nbf"`
	IssuedAt  *int64          `json:"iat"`
	JWTID     string          `json:"jti"`
	ClientID  string          `json:"client_id"`
	Scope     string          `json:"scope"`
	AuthTime  int64           `json:"auth_time"`
	AMR       []string        `json:"amr"`
	Confirm   json.RawMessage `json:"cnf"`

	Anonymous         *bool    `json:"https://authgear.com/claims/user/is_anonymous"`
	Verified          *bool    `json:"https://authgear.com/claims/user/is_verified"`
	CanReauthenticate *bool    `json:"https://authgear.com/claims/user/can_reauthenticate"`
	Roles             []string `json:"https://authgear.com/claims/user/roles"`
}

// An audience is a string or a list of strings. RFC 7519 §4.1.3.
type audience []string

func (a *audience) UnmarshalJSON(b []byte) error {
	if len(b) > 0 && b[0] == '"' {
		*a = make([]string, 1)
		return json.Unmarshal(b, &(*a)[0])
	}
	return json.Unmarshal(b, (*[]string)(a))
}

func parseToken(text string) (*token, error) {
	malformed := func(detail string) error { return invalid(MalformedCredential, detail) }
	if len(text) > maxToken {
		return nil, malformed("a JWT of more than 16 KiB")
	}
	if strings.Count(text, ".") != 2 {
		return nil, malformed("a JWT has three parts")
	}
	end := strings.LastIndexByte(text, '.')
	first, second, _ := strings.Cut(text[:end], ".")
	t := &token{signed: text[:end]}
	if err := decode(first, &t.header); err != nil {
		return nil, malformed("the header of the JWT is no JSON object in base64url, or has a member twice")
	}
	if err := decode(second, &t.claims); err != nil {
		return nil, malformed("the claims of the JWT are no JSON object in base64url, have a member twice, or a claim is of the wrong type")
	}
	signature, err := decodeSegment(text[end+1:])
	if err != nil {
		return nil, malformed("the signature of the JWT is not in base64url")
	}
	t.signature = signature
	return t, nil
}

// maxDepth is how deep the JSON of a token may nest. Authgear's own has depth 2.
const maxDepth = 8

func decode(segment string, into any) error {
	b, err := decodeSegment(segment)
	if err != nil {
		return err
	}
	if len(b) == 0 || b[0] != '{' || tooDeep(b) {
		return errMalformed
	}
	return json.Unmarshal(b, into)
}

// canonical base64url: no padding and no stray bits, so that a token has one
// text. (Go's decoder skips line breaks, so they are looked for.)
var canonical = base64.RawURLEncoding.Strict()

func decodeSegment(s string) ([]byte, error) {
	if strings.ContainsAny(s, "\r\n") {
		return nil, errMalformed
	}
	return canonical.DecodeString(s)
}

func tooDeep(b []byte) bool {
	depth, inString := 0, false
	for i := 0; i < len(b); i++ {
		switch c := b[i]; {
		case inString && c == '\\':
			i++
		case c == '"':
			inString = !inString
		case inString:
		case c == '{' || c == '[':
			if depth++; depth > maxDepth {
				return true
			}
		case c == '}' || c == ']':
			depth--
		}
	}
	return false
}

func (h *header) check() error {
	switch {
	case h.JWKSetURL != nil, h.Key != nil, h.X509URL != nil, h.Critical != nil, h.Base64 != nil:
		return invalid(MalformedCredential, "the JWT has one of jku, jwk, x5u, crit, b64 in its header")
	case h.Algorithm != "RS256":
		return invalid(WrongAlgorithm, "only RS256 is accepted")
	case !isAccessTokenType(h.Type):
		return invalid(WrongType, "typ is not at+jwt: is it an ID token?")
	case h.KeyID == "":
		return invalid(MalformedCredential, "the JWT names no key (kid)")
	}
	return nil
}

// isAccessTokenType follows RFC 9068 §4 and RFC 7515 §4.1.9.
func isAccessTokenType(typ string) bool {
	const want = "at+jwt"
	return strings.EqualFold(typ, want) || strings.EqualFold(typ, "application/"+want)
}

const machinePrefix = "client_id_" // contract §3.2

func (j *JWT) checkClaims(c *claims, now time.Time) error {
	switch {
	case c.Issuer != j.Issuer:
		return invalid(WrongIssuer, "iss is not AUTHGEAR_ENDPOINT")
	case !slices.ContainsFunc(c.Audience, func(a string) bool { return slices.Contains(j.Audiences, a) }):
		return invalid(WrongAudience, "no aud of the token is in AUTHGEAR_AUDIENCES")
	case c.Expiry == nil || c.IssuedAt == nil || c.Subject == "" || c.ClientID == "" || c.JWTID == "":
		return invalid(MalformedCredential, "one of exp, iat, sub, client_id, jti is missing: is it an access token?")
	case len(j.ClientIDs) > 0 && !slices.Contains(j.ClientIDs, c.ClientID):
		return invalid(WrongClient, "client_id is not in AUTHGEAR_CLIENT_IDS")
	case c.Confirm != nil:
		return invalid(WrongType, "the token is bound to a key (cnf), and the proof of it cannot be checked here")
	case !c.machine() && c.Anonymous == nil:
		return invalid(WrongType, "not the token of a user: it lacks the is_anonymous claim")
	case !c.presentable():
		return invalid(MalformedCredential, "a claim has characters that no HTTP field may hold")
	}
	return j.checkTimes(c, now)
}

func (j *JWT) checkTimes(c *claims, now time.Time) error {
	const year9999 = 253402300799
	for _, t := range []*int64{c.Expiry, c.IssuedAt, c.NotBefore} {
		if t != nil && (*t < 0 || *t > year9999) {
			return invalid(MalformedCredential, "exp, iat or nbf is no time")
		}
	}
	latest := now.Add(j.Skew)
	switch {
	case !now.Before(time.Unix(*c.Expiry, 0).Add(j.Skew)):
		return invalid(Expired, "")
	case time.Unix(*c.IssuedAt, 0).After(latest), c.NotBefore != nil && time.Unix(*c.NotBefore, 0).After(latest):
		return invalid(NotYetValid, "are the clocks of this machine and of Authgear right?")
	}
	return nil
}

func (c *claims) machine() bool { return strings.HasPrefix(c.Subject, machinePrefix) }

// presentable tells whether the claims that become HTTP fields can be told there.
func (c *claims) presentable() bool {
	for _, list := range [][]string{c.Roles, c.AMR} {
		for _, item := range list {
			if item == "" || !isVisible(item) || strings.Contains(item, ",") {
				return false
			}
		}
	}
	return isVisible(c.Subject) && isVisible(c.ClientID) && isVisible(strings.ReplaceAll(c.Scope, " ", ""))
}

// isVisible tells whether s has visible ASCII characters alone.
func isVisible(s string) bool {
	for i := 0; i < len(s); i++ {
		if s[i] <= ' ' || s[i] >= 0x7f {
			return false
		}
	}
	return true
}

func (c *claims) session() *Session {
	s := &Session{
		ClientID: c.ClientID,
		Scope:    c.Scope,
		IssuedAt: time.Unix(*c.IssuedAt, 0),
		Expiry:   time.Unix(*c.Expiry, 0),
	}
	if c.machine() {
		s.Machine = true
		return s
	}
	s.UserID = c.Subject
	s.Anonymous = factOf(c.Anonymous)
	s.Verified = factOf(c.Verified)
	s.CanReauthenticate = factOf(c.CanReauthenticate)
	s.Roles = strings.Join(c.Roles, ",")
	s.AMR = strings.Join(c.AMR, " ")
	s.AuthenticatedAt = max(c.AuthTime, 0)
	return s
}
