package resolver

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"strings"
	"sync"
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
	if c.Trace.Explains() {
		c.Trace.Note("form", err, fmt.Sprintf("%d bytes", len(c.List[0].Value)))
	}
	if err != nil {
		return nil, err
	}
	in := admission{known: c.Known}
	if err := in.enter(ctx); err != nil {
		return nil, err
	}
	defer in.leave()
	work := works.Get().(*work)
	defer works.Put(work)
	keyID, err := j.keyID(t.header, work, c.Trace)
	if err != nil {
		return nil, err
	}
	claims, err := j.claims(t.claims, work, c.Trace)
	if err != nil {
		return nil, err
	}
	err = j.verify(ctx, &in, t, keyID, work)
	if c.Trace.Explains() {
		c.Trace.Note("signature", err, j.Keys.describe(keyID, err))
	}
	if err != nil {
		return nil, err
	}
	if last := j.last.Load(); last == nil || last.text != t.header {
		j.last.Store(&goodHeader{strings.Clone(t.header), keyID})
	}
	return claims.session(), nil
}

// verify checks the signature with the key that the token names.
func (j *JWT) verify(ctx context.Context, in *admission, t token, keyID string, work *work) error {
	signature, err := work.decode(t.signature)
	if err != nil {
		return invalid(MalformedCredential, "the signature of the JWT is not in base64url: was the token cut?")
	}
	key := j.Keys.lookup(keyID)
	if key == nil {
		in.leave() // to fetch it takes time
		if key, err = j.Keys.Key(ctx, keyID); err != nil {
			return err
		}
		if err := in.enter(ctx); err != nil {
			return err
		}
	}
	return t.verify(key, signature)
}

// A goodHeader is that of a token whose signature was good. Tokens that are signed
// with the same key have the same one, and it need not be read again.
type goodHeader struct{ text, keyID string }

// keyID reads and checks the header of a token, and returns the key that it names.
func (j *JWT) keyID(segment string, work *work, t *Trace) (string, error) {
	if last := j.last.Load(); last != nil && last.text == segment && !t.Explains() {
		return last.keyID, nil
	}
	h := &work.header
	*h = header{}
	if err := work.read(segment, h); err != nil {
		err = invalid(MalformedCredential, "the header of the JWT is no JSON object in base64url, or has a member twice")
		if t.Explains() {
			t.Note("header", err, "unreadable")
		}
		return "", err
	}
	return h.KeyID, check(headerChecks, j, h, time.Now(), t)
}

// claims reads and checks the claims of a token. They are the work's own.
func (j *JWT) claims(segment string, work *work, t *Trace) (*claims, error) {
	c := &work.claims
	*c = claims{}
	if err := work.read(segment, c); err != nil {
		err = invalid(MalformedCredential, "the claims of the JWT are no JSON object in base64url, have a member twice, or a claim is of the wrong type")
		if t.Explains() {
			t.Note("claims", err, "unreadable")
		}
		return nil, err
	}
	return c, check(claimChecks, j, c, time.Now(), t)
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

// verify checks the signature. RFC 8725 §3.1: the algorithm is ours; the token's was
// only compared with it.
func (t *token) verify(key *publicKey, signature []byte) error {
	if !key.verify(sha256.Sum256(bytesOf(t.signed)), signature) {
		return errBadSignature
	}
	return nil
}

var errBadSignature = invalid(BadSignature, "the token was changed, or another issuer signed it")

type header struct {
	Algorithm string `json:"alg"`
	KeyID     string `json:"kid"`
	Type      string `json:"typ"`

	// Each of these would let the token choose its key or its meaning.
	// RFC 8725 §3.10, RFC 7515 §4.1.11, RFC 7797 §6.
	JWKSetURL jsontext.Value `json:"jku"`
	Key       jsontext.Value `json:"jwk"`
	X509URL   jsontext.Value `json:"x5u"`
	X509Chain jsontext.Value `json:"x5c"`
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

// canonical base64url: no padding and no stray bits, so that a token has one
// text. (Go's decoder skips line breaks, so they are looked for.)
var canonical = base64.RawURLEncoding.Strict()

// A work is where a token is read, and used again: else tokens that are no good would make half
// of the garbage.
type work struct {
	text   []byte // a segment, one at a time
	header header
	claims claims
}

var errMalformed = errors.New("malformed segment")

var works = sync.Pool{New: func() any { return new(work) }}

// read decodes a segment and reads the JSON in it.
func (w *work) read(segment string, into any) error {
	b, err := w.decode(segment)
	if err != nil {
		return err
	}
	if len(b) == 0 || b[0] != '{' || tooDeep(b) {
		return errMalformed
	}
	return json.Unmarshal(b, into)
}

func (w *work) decode(s string) (_ []byte, err error) {
	if strings.Contains(s, "\r") || strings.Contains(s, "\n") {
		return nil, errMalformed
	}
	w.text, err = canonical.AppendDecode(w.text[:0], bytesOf(s))
	return w.text, err
}

func tooDeep(b []byte) bool {
	if bytes.Count(b, []byte("{"))+bytes.Count(b, []byte("[")) <= maxDepth { // as in any token of Authgear
		return false
	}
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

// isAccessTokenType follows RFC 9068 §4 and RFC 7515 §4.1.9.
func isAccessTokenType(typ string) bool {
	const want = "at+jwt"
	return strings.EqualFold(typ, want) || strings.EqualFold(typ, "application/"+want)
}

const machinePrefix = "client_id_" // contract §3.2

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
