package resolver

import (
	"context"
	"crypto"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/base64"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/go-json-experiment/json" // refuses duplicate members and names in another letter case
	"github.com/go-json-experiment/json/jsontext"
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

	last atomic.Pointer[goodHeader]
}

// Resolve returns the session that the token describes. Credentials that are
// not one single JWT are [ErrNotMine].
func (j *JWT) Resolve(ctx context.Context, c Credentials) (*Session, error) {
	if len(c.List) != 1 || !c.List[0].IsJWT() {
		return nil, ErrNotMine
	}
	t, err := splitToken(c.List[0].Value)
	if err != nil {
		return nil, err
	}
	keyID, err := j.keyID(t.header)
	if err != nil {
		return nil, err
	}
	var claims claims
	if err := decode(t.claims, &claims); err != nil {
		return nil, invalid(MalformedCredential, "the claims of the JWT are no JSON object in base64url, have a member twice, or a claim is of the wrong type")
	}
	if err := j.checkClaims(&claims, time.Now()); err != nil {
		return nil, err
	}
	signature, err := decodeSegment(t.signature)
	if err != nil {
		return nil, invalid(MalformedCredential, "the signature of the JWT is not in base64url")
	}
	key, err := j.Keys.Key(ctx, keyID)
	if err != nil {
		return nil, err
	}
	// RFC 8725 §3.1: the algorithm is ours; the token's was only compared with it.
	sum := sha256.Sum256([]byte(t.signed))
	if err := rsa.VerifyPKCS1v15(key, crypto.SHA256, sum[:], signature); err != nil {
		return nil, invalid(BadSignature, "")
	}
	if last := j.last.Load(); last == nil || last.text != t.header {
		j.last.Store(&goodHeader{strings.Clone(t.header), keyID})
	}
	return claims.session(), nil
}

// A goodHeader is that of a token whose signature was good. Tokens that are signed
// with the same key have the same one, and it need not be read again.
type goodHeader struct{ text, keyID string }

// keyID reads and checks the header of a token, and returns the key that it names.
func (j *JWT) keyID(segment string) (string, error) {
	if last := j.last.Load(); last != nil && last.text == segment {
		return last.keyID, nil
	}
	var h header
	if err := decode(segment, &h); err != nil {
		return "", invalid(MalformedCredential, "the header of the JWT is no JSON object in base64url, or has a member twice")
	}
	return h.KeyID, h.check()
}

// A token is a JWT in compact serialization, taken apart.
type token struct {
	header, claims, signature string // in base64url
	signed                    string // what the signature is over
}

func splitToken(text string) (t token, err error) {
	if len(text) > maxToken {
		return t, invalid(MalformedCredential, "a JWT of more than 16 KiB")
	}
	var three bool
	if t.header, t.claims, three = strings.Cut(text, "."); three {
		t.claims, t.signature, three = strings.Cut(t.claims, ".")
	}
	if !three || strings.Contains(t.signature, ".") {
		return t, invalid(MalformedCredential, "a JWT has three parts")
	}
	t.signed = text[:len(text)-len(t.signature)-1]
	return t, nil
}

type header struct {
	Algorithm string `json:"alg"`
	KeyID     string `json:"kid"`
	Type      string `json:"typ"`

	// Each of these would let the token choose its key or its meaning.
	// RFC 8725 §3.10, RFC 7515 §4.1.11, RFC 7797 §6.
	JWKSetURL jsontext.Value `json:"jku"`
	Key       jsontext.Value `json:"jwk"`
	X509URL   jsontext.Value `json:"x5u"`
	Critical  jsontext.Value `json:"crit"`
	Base64    jsontext.Value `json:"b64"`
}

type claims struct {
	Issuer    string         `json:"iss"`
	Subject   string         `json:"sub"`
	Audience  audience       `json:"aud"`
	Expiry    *int64         `json:"exp"`
	NotBefore *int64         `json:"nbf"`
	IssuedAt  *int64         `json:"iat"`
	JWTID     string         `json:"jti"`
	ClientID  string         `json:"client_id"`
	Scope     string         `json:"scope"`
	AuthTime  int64          `json:"auth_time"`
	AMR       []string       `json:"amr"`
	Confirm   jsontext.Value `json:"cnf"`

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
	if strings.Contains(s, "\r") || strings.Contains(s, "\n") {
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
		ClientID: shared(c.ClientID),
		Scope:    shared(c.Scope),
		IssuedAt: UnixTime(*c.IssuedAt),
		Expiry:   UnixTime(*c.Expiry),
	}
	if c.machine() {
		s.Machine = true
		return s
	}
	s.UserID = c.Subject
	s.Anonymous = factOf(c.Anonymous)
	s.Verified = factOf(c.Verified)
	s.CanReauthenticate = factOf(c.CanReauthenticate)
	s.Roles = shared(strings.Join(c.Roles, ","))
	s.AMR = shared(strings.Join(c.AMR, " "))
	s.AuthenticatedAt = max(c.AuthTime, 0)
	return s
}
