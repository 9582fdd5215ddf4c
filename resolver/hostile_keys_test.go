package resolver_test

import (
	"bytes"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/json"
	"math/big"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"authgear-forward-auth/resolver"
)

// testOddKeys publishes keys that a signature could not be checked with as it must be.
func testOddKeys(t *testing.T) {
	pub := &issuerKey().PublicKey
	even := &rsa.PublicKey{N: new(big.Int).Add(pub.N, big.NewInt(1)), E: pub.E}
	padded := append(make([]byte, 8), pub.N.Bytes()...)
	testKeys(t, map[string]odd{
		"leading zeros in the modulus":     {jwkOf(pub, "n", b64.EncodeToString(padded)), ok}, // the same number
		"leading zeros do not make 2048":   {jwkOf(pub, "n", b64.EncodeToString(append(make([]byte, 200), pub.N.Bytes()[:128]...))), unknownKey},
		"an even modulus":                  {jwkOf(even), unknownKey},
		"no modulus":                       {jwkOf(pub, "n", ""), unknownKey},
		"a modulus of 65536 bits":          {jwkOf(pub, "n", strings.Repeat("_", 65536/6)), unknownKey},
		"an exponent of 33 bits":           {jwkOf(pub, "e", b64.EncodeToString([]byte{1, 0, 0, 0, 1})), unknownKey},
		"the modulus as a number":          {jwkOf(pub, "n", 17), unknownKey},
		"the modulus in standard base64":   {jwkOf(pub, "n", "++//"+b64.EncodeToString(pub.N.Bytes())), unknownKey},
		"a private key":                    {jwkOf(pub, "d", b64.EncodeToString(issuerKey().D.Bytes()), "p", b64.EncodeToString(issuerKey().Primes[0].Bytes()), "q", b64.EncodeToString(issuerKey().Primes[1].Bytes())), unknownKey},
		"for encryption":                   {jwkOf(pub, "use", "enc"), unknownKey},
		"use in another letter case":       {jwkOf(pub, "use", "SIG"), unknownKey},
		"for encryption, as key_ops":       {jwkOf(pub, "use", nil, "key_ops", []string{"encrypt"}), unknownKey},
		"for signing, as key_ops":          {jwkOf(pub, "use", nil, "key_ops", []string{"sign"}), unknownKey},
		"for nothing, as key_ops":          {jwkOf(pub, "key_ops", []string{}), unknownKey},
		"key_ops that is no list":          {jwkOf(pub, "key_ops", "verify"), unknownKey},
		"for signatures, as key_ops":       {jwkOf(pub, "use", nil, "key_ops", []string{"verify"}), ok},
		"key_ops with more":                {jwkOf(pub, "key_ops", []string{"sign", "verify"}), ok},
		"for another algorithm":            {jwkOf(pub, "alg", "RS384"), unknownKey},
		"for none":                         {jwkOf(pub, "alg", "none"), unknownKey},
		"another kind that is RSA inside":  {jwkOf(pub, "kty", "EC"), unknownKey},
		"a symmetric key that is RSA":      {jwkOf(pub, "kty", "oct", "k", "c2VjcmV0"), unknownKey},
		"its kid is another":               {jwkOf(pub, "kid", "IT"), unknownKey},
		"its kid is that of the issuer's":  {jwkOf(&strangersKey().PublicKey, "kid", "k"), unknownKey},
		"a second one with the same kid":   {jwkOf(pub), ok},
		"a certificate that is none":       {jwkOf(pub, "x5c", []string{"AAAA"}), unknownKey},
		"a member that nobody knows":       {jwkOf(pub, "created_at", 1), ok},
		"a use that is no text":            {jwkOf(pub, "use", 1), unknownKey},
		"a kid that is no text":            {jwkOf(pub, "kid", 1), unknownKey},
		"an exponent with leading zeros":   {jwkOf(pub, "e", b64.EncodeToString([]byte{0, 0, 1, 0, 1})), ok},
		"no key at all, but the issuer's":  {map[string]any{}, unknownKey},
		"a list in the list":               {[]any{jwkOf(pub)}, unknownKey},
		"a key that is the text of itself": {"{}", unknownKey},
	})
}

// testWeakKeys publishes keys that a stranger could sign for. That a modulus has two
// large primes cannot be seen from outside: that is for the issuer.
func testWeakKeys(t *testing.T) {
	pub := &issuerKey().PublicKey
	bits := func(n uint) string {
		m := new(big.Int).Rsh(pub.N, 2048-n)
		return b64.EncodeToString(m.SetBit(m, 0, 1).Bytes())
	}
	testKeys(t, map[string]odd{
		"512 bits":      {jwkOf(pub, "n", bits(512)), unknownKey},
		"1024 bits":     {jwkOf(pub, "n", bits(1024)), unknownKey},
		"2047 bits":     {jwkOf(pub, "n", bits(2047)), unknownKey},
		"exponent 0":    {jwkOf(pub, "e", "AA"), unknownKey},
		"exponent 1":    {jwkOf(pub, "e", "AQ"), unknownKey},
		"exponent 2":    {jwkOf(pub, "e", "Ag"), unknownKey},
		"exponent 4":    {jwkOf(pub, "e", "BA"), unknownKey},
		"exponent 2^16": {jwkOf(pub, "e", "AQAA"), unknownKey},
		"2048 bits":     {jwkOf(pub), ok},
	})
}

// An odd key of the set, and what becomes of a token that names it.
type odd struct {
	key  any
	want resolver.Reason
}

// testKeys publishes each key behind the issuer's, with the kid "it" unless it has
// one, and verifies a token that names "it". Where the exponent is 1, so is the token's
// signature that of exponent 1, which everybody can make.
func testKeys(t *testing.T, keys map[string]odd) {
	for name, o := range keys {
		t.Run(name, func(t *testing.T) {
			if m, isKey := o.key.(map[string]any); isKey && len(m) > 0 && m["kid"] == nil {
				m["kid"] = "it"
			}
			f := newForge(t, o.key)
			h := header(`"k"`, `"it"`)
			for kind, token := range map[string]string{"signed": f.token(h, f.claims()), "padded, as is good for exponent 1": f.with(h, f.claims(), padding(input(h, f.claims())))} {
				want := o.want
				if kind != "signed" && want == ok {
					want = badSignature
				}
				if s, err := resolve(f.jwt, token); reasonOf(err) != want {
					t.Errorf("%s: Resolve = %+v, %v, want %s", kind, s, err, want)
				}
			}
			if _, err := resolve(f.jwt, f.token(goodHeader, f.claims())); err != nil {
				t.Errorf("the issuer's own key: %v", err)
			}
		})
	}
}

// padding is the padded digest of a text: its signature for exponent 1. RFC 8017 §9.2.
func padding(text string) []byte {
	sum := sha256.Sum256([]byte(text))
	named := append([]byte{0x30, 0x31, 0x30, 0x0d, 0x06, 0x09, 0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02, 0x01, 0x05, 0x00, 0x04, 0x20}, sum[:]...)
	p := append([]byte{0, 1}, bytes.Repeat([]byte{0xff}, 256-3-len(named))...)
	return append(append(p, 0), named...)
}

// testInjectedKeys tests that a token cannot bring its key along, or make us fetch it.
func testInjectedKeys(t *testing.T) {
	evil := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		t.Errorf("the token's %s was fetched", r.URL)
	}))
	defer evil.Close()
	f := newForge(t)
	jwk, err := json.Marshal(jwkOf(&strangersKey().PublicKey, "kid", "k"))
	if err != nil {
		t.Fatal(err)
	}
	bring := func(h string) string { return f.with(h, f.claims(), rs256(strangersKey(), input(h, f.claims()))) }
	var list []hostile
	for _, member := range []string{
		`"jwk":` + string(jwk), `"jwk":null`, `"jwk":{}`, `"jku":"` + evil.URL + `/jwks"`, `"jku":null`, `"jku":""`, `"x5u":"` + evil.URL + `/x5u"`, `"x5u":null`,
		`"x5c":["MIIB"]`, `"x5c":null`, `"crit":["exp"]`, `"crit":[]`, `"crit":null`, `"b64":true`, `"b64":false`, `"jwk":{},"jwk":{}`, `"j\u0077k":` + string(jwk),
	} {
		h := header(`{`, `{`+member+`,`)
		list = append(list, hostile{member + ", a stranger's signature", bring(h), malformed}, hostile{member + ", the issuer's signature", f.token(h, f.claims()), malformed})
	}
	for _, member := range []string{`"x5t":"AAAA"`, `"x5t#S256":"AAAA"`, `"iss":"` + evil.URL + `"`, `"JKU":"` + evil.URL + `"`, `"url":"` + evil.URL + `"`} {
		h := header(`{`, `{`+member+`,`)
		list = append(list, hostile{member + ", a stranger's signature", bring(h), badSignature})
	}
	for _, kid := range []string{
		`../../../../dev/null`, `/etc/passwd`, `file:///dev/null`, evil.URL, `k' OR '1'='1`, `x' UNION SELECT 'secret' --`, `k\u0000`, `\u0000`, `k `, `K`, `k/../k`, `$(id)`, `{{7*7}}`,
		`k\r\nX: y`, strings.Repeat("k", 10_000),
	} {
		list = append(list, hostile{"kid is " + kid[:min(len(kid), 40)], f.token(header(`"k"`, `"`+kid+`"`), f.claims()), unknownKey})
	}
	for _, kid := range []string{`""`, `null`, `0`, `["k"]`, `{"k":"k"}`, `true`, `"k","kid":"x"`, `"x","kid":"k"`, `"x","k\u0069d":"k"`} {
		list = append(list, hostile{"kid is " + kid, f.token(header(`"k"`, kid), f.claims()), malformed})
	}
	list = append(list, hostile{"no kid", f.token(header(`"kid":"k",`, ""), f.claims()), malformed}, hostile{"KID", f.token(header(`"kid"`, `"KID"`), f.claims()), malformed})
	f.rule(t, "keys", list...)
	if n := f.issuer.KeyFetches(); n > 2 { // the first, and one more if the test takes that long
		t.Errorf("%d fetches of the keys, want one or two", n)
	}
}
