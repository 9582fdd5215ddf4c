package resolver_test

import (
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"math/big"
	"strings"
	"sync"
	"testing"
	"time"

	"authgear-forward-auth/internal/authgeartest"
	"authgear-forward-auth/resolver"
)

var b64 = base64.RawURLEncoding

// issuerKey and strangersKey are made once: it takes a while.
var (
	issuerKey    = sync.OnceValue(newKey)
	strangersKey = sync.OnceValue(newKey)
)

func newKey() *rsa.PrivateKey {
	k, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		panic(err)
	}
	return k
}

// A forge makes tokens to the letter, signed with the issuer's key unless it is told
// otherwise, and has them verified by resolver.JWT with the keys that the issuer
// publishes.
type forge struct {
	issuer *authgeartest.Server
	jwt    *resolver.JWT
}

// newForge publishes the issuer's key with the kid "k", and the given ones behind it.
func newForge(t *testing.T, more ...any) *forge {
	t.Helper()
	s := authgeartest.Start(t, authgeartest.Options{})
	set, err := json.Marshal(map[string]any{"keys": append([]any{jwkOf(&issuerKey().PublicKey, "kid", "k")}, more...)})
	if err != nil {
		t.Fatal(err)
	}
	s.SetKeys(set)
	return &forge{s, verifier(t, s)}
}

// jwkOf returns the key as the issuer publishes it, but for the given members; nil
// leaves one out.
func jwkOf(k *rsa.PublicKey, members ...any) map[string]any {
	jwk := map[string]any{
		"kty": "RSA", "use": "sig", "alg": "RS256",
		"n": b64.EncodeToString(k.N.Bytes()), "e": b64.EncodeToString(big.NewInt(int64(k.E)).Bytes()),
	}
	for i := 0; i < len(members); i += 2 {
		if jwk[members[i].(string)] = members[i+1]; members[i+1] == nil {
			delete(jwk, members[i].(string))
		}
	}
	return jwk
}

const goodHeader = `{"alg":"RS256","kid":"k","typ":"at+jwt"}`

// header returns a good header, edited: old and new texts in turn.
func header(edits ...string) string { return edited(goodHeader, edits) }

// claims returns those of a user's good access token, edited alike.
func (f *forge) claims(edits ...string) string {
	now := time.Now().Unix()
	return edited(fmt.Sprintf(`{"iss":%q,"aud":["https://api.example.com"],"sub":"ada","client_id":"spa","jti":"1","iat":%d,"exp":%d,"scope":"openid","auth_time":%[2]d,`+
		`"https://authgear.com/claims/user/is_anonymous":false,"https://authgear.com/claims/user/roles":["editor"]}`, f.issuer.Origin(), now, now+600), edits)
}

// also returns a good token's claims with more members.
func (f *forge) also(members string) string { return f.claims(`{"iss"`, `{`+members+`,"iss"`) }

func edited(text string, edits []string) string {
	for i := 0; i < len(edits); i += 2 {
		if !strings.Contains(text, edits[i]) {
			panic(fmt.Sprintf("%s has no %s", text, edits[i]))
		}
		text = strings.Replace(text, edits[i], edits[i+1], 1)
	}
	return text
}

// token returns a token with a good signature of the issuer.
func (f *forge) token(header, claims string) string {
	return input(header, claims) + "." + b64.EncodeToString(rs256(issuerKey(), input(header, claims)))
}

// with returns a token with another signature.
func (f *forge) with(header, claims string, signature []byte) string {
	return input(header, claims) + "." + b64.EncodeToString(signature)
}

func input(header, claims string) string {
	return b64.EncodeToString([]byte(header)) + "." + b64.EncodeToString([]byte(claims))
}

func rs256(k *rsa.PrivateKey, input string) []byte {
	sum := sha256.Sum256([]byte(input))
	signature, err := rsa.SignPKCS1v15(nil, k, crypto.SHA256, sum[:])
	if err != nil {
		panic(err)
	}
	return signature
}

// A hostile token, and why it is refused.
type hostile struct {
	name, token string
	want        resolver.Reason
}

// notMine is the reason of what is no JWT to us: it may be Authgear's own token.
var notMine = reasonOf(resolver.ErrNotMine)

// rule tests what a rule says of some tokens.
func (f *forge) rule(t *testing.T, name string, tokens ...hostile) {
	t.Run(name, func(t *testing.T) {
		for _, h := range tokens {
			t.Run(h.name, func(t *testing.T) {
				s, err := resolve(f.jwt, h.token)
				if reasonOf(err) != h.want || (s != nil) != (err == nil) {
					t.Errorf("Resolve = %+v, %v, want %s", s, err, h.want)
				}
			})
		}
	})
}
