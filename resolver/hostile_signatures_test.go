package resolver_test

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/hmac"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/sha512"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"math/big"
	"slices"
	"strings"
	"testing"

	"github.com/golang-jwt/jwt/v5"

	"authgear-forward-auth/resolver"
)

// The best practices for JWTs, RFC 8725 §3, one by one. Each attack is made for real: what
// can be signed is signed.
func TestRFC8725(t *testing.T) {
	f := newForge(t)
	f.rule(t, "as issued", hostile{"the token that the others are made of", f.token(goodHeader, f.claims()), ok})
	f.rule(t, "3.1 Perform algorithm verification", slices.Concat(f.confusions(t), f.nones(), f.misspelt())...)
	t.Run("3.2 Use appropriate algorithms", testOtherAlgorithms)
	f.rule(t, "3.3 Validate all cryptographic operations", slices.Concat(f.badSignatures(), f.encrypted())...)
	t.Run("3.4 Validate cryptographic inputs", testOddKeys)
	t.Run("3.5 Ensure cryptographic keys have sufficient entropy", testWeakKeys)
	f.rule(t, "3.6 Avoid compression of encryption inputs", f.compressed()...)
	f.rule(t, "3.7 Use UTF-8", f.notUTF8()...)
	f.rule(t, "3.8 Validate issuer and subject", slices.Concat(f.issuers(), f.subjects())...)
	f.rule(t, "3.9 Use and validate audience", f.audiences()...)
	t.Run("3.10 Do not trust received claims", testInjectedKeys)
	f.rule(t, "3.11 Use explicit typing", f.types()...)
	t.Run("3.12 Use mutually exclusive validation rules for different kinds of JWTs", testOtherKinds)
}

// confusions are signed with a secret that everybody knows: the public key.
func (f *forge) confusions(t *testing.T) (list []hostile) {
	t.Helper()
	pub := &issuerKey().PublicKey
	spki, err := x509.MarshalPKIXPublicKey(pub)
	if err != nil {
		t.Fatal(err)
	}
	pkcs1 := x509.MarshalPKCS1PublicKey(pub)
	jwk, err := json.Marshal(jwkOf(pub, "kid", "k"))
	if err != nil {
		t.Fatal(err)
	}
	for name, secret := range map[string][]byte{
		"PEM":                     pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: spki}),
		"PEM without a line end":  bytes.TrimSpace(pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: spki})),
		"PEM of PKCS #1":          pem.EncodeToMemory(&pem.Block{Type: "RSA PUBLIC KEY", Bytes: pkcs1}),
		"DER":                     spki,
		"DER of PKCS #1":          pkcs1,
		"modulus":                 pub.N.Bytes(),
		"modulus with a sign":     append([]byte{0}, pub.N.Bytes()...),
		"modulus in base64url":    []byte(b64.EncodeToString(pub.N.Bytes())),
		"modulus in decimals":     []byte(pub.N.String()),
		"JWK":                     jwk,
		"kid":                     []byte("k"),
		"nothing":                 {},
		"32 zeros":                make([]byte, 32),
		"the public exponent":     {1, 0, 1},
		"PEM with Windows's ends": bytes.ReplaceAll(pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: spki}), []byte("\n"), []byte("\r\n")),
	} {
		h := header("RS256", "HS256")
		mac := hmac.New(sha256.New, secret)
		mac.Write([]byte(input(h, f.claims())))
		list = append(list, hostile{"HS256 with the public key: " + name, f.with(h, f.claims(), mac.Sum(nil)), wrongAlgorithm})

		mac = hmac.New(sha256.New, secret)
		mac.Write([]byte(input(goodHeader, f.claims())))
		list = append(list, hostile{"RS256 that is an HMAC with the public key: " + name, f.with(goodHeader, f.claims(), mac.Sum(nil)), badSignature})
	}
	return list
}

func (f *forge) nones() (list []hostile) {
	for _, none := range []string{`"none"`, `"None"`, `"NONE"`, `"nOnE"`, `"noNE"`, `"none "`, `" none"`, `"none\u0000"`, `"n\u006fne"`, `"\u006e\u006f\u006e\u0065"`, `""`, `"null"`, `null`} {
		h := header(`"RS256"`, none)
		good := rs256(issuerKey(), input(h, f.claims()))
		list = append(list,
			hostile{none + " without a signature", f.with(h, f.claims(), nil), wrongAlgorithm},
			hostile{none + " and garbage", f.with(h, f.claims(), []byte("garbage")), wrongAlgorithm},
			hostile{none + " and a good signature", f.with(h, f.claims(), good), wrongAlgorithm},
			hostile{none + " without the second dot", input(h, f.claims()), malformed},
		)
	}
	return append(list,
		hostile{"no alg", f.token(header(`"alg":"RS256",`, ""), f.claims()), wrongAlgorithm},
		hostile{"RS256 without a signature", f.with(goodHeader, f.claims(), nil), badSignature},
	)
}

func (f *forge) misspelt() (list []hostile) {
	for alg, want := range map[string]resolver.Reason{
		`"rs256"`: wrongAlgorithm, `"Rs256"`: wrongAlgorithm, `"RS256 "`: wrongAlgorithm, `" RS256"`: wrongAlgorithm, `"RS256\u0000"`: wrongAlgorithm,
		`"RS-256"`: wrongAlgorithm, `"ＲＳ256"`: wrongAlgorithm, `["RS256"]`: malformed, `{"RS256":1}`: malformed, `256`: malformed, `true`: malformed,
		`"RS256","alg":"none"`: malformed, `"none","alg":"RS256"`: malformed, `"RS256","al\u0067":"none"`: malformed, `"RS256","alg":"RS256"`: malformed,
		`"\u0052S256"`: ok, // the same text in JSON
	} {
		list = append(list, hostile{"alg is " + alg, f.token(header(`"RS256"`, alg), f.claims()), want})
	}
	return append(list,
		hostile{"ALG", f.token(header(`"alg"`, `"ALG"`), f.claims()), wrongAlgorithm},
		hostile{"ALG beside alg is another member", f.token(header(`"alg"`, `"ALG":"none","alg"`), f.claims()), ok},
	)
}

// testOtherAlgorithms publishes a key for each algorithm and signs with it.
func testOtherAlgorithms(t *testing.T) {
	ec, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	point, err := ec.PublicKey.Bytes()
	if err != nil {
		t.Fatal(err)
	}
	public, edwards, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	secret := []byte("a secret that somebody published by mistake")
	rsaKey := issuerKey()
	f := newForge(t,
		jwkOf(&rsaKey.PublicKey, "kid", "any", "alg", nil, "use", nil),
		jwkOf(&rsaKey.PublicKey, "kid", "ps", "alg", "PS256"),
		jwkOf(&rsaKey.PublicKey, "kid", "rs512", "alg", "RS512"),
		map[string]any{"kty": "EC", "kid": "ec", "crv": "P-256", "x": b64.EncodeToString(point[1:33]), "y": b64.EncodeToString(point[33:])},
		map[string]any{"kty": "OKP", "kid": "ed", "crv": "Ed25519", "x": b64.EncodeToString(public)},
		map[string]any{"kty": "oct", "kid": "hs", "k": b64.EncodeToString(secret)},
	)
	sign := func(m jwt.SigningMethod, key any, kid string) (token string) {
		h := header("RS256", m.Alg(), `"k"`, `"`+kid+`"`)
		signature, err := m.Sign(input(h, f.claims()), key)
		if err != nil {
			t.Fatal(err)
		}
		return f.with(h, f.claims(), signature)
	}
	f.rule(t, "signed with a published key", []hostile{
		{"RS256, with a key for any", sign(jwt.SigningMethodRS256, rsaKey, "any"), ok},
		{"RS384", sign(jwt.SigningMethodRS384, rsaKey, "any"), wrongAlgorithm},
		{"RS512", sign(jwt.SigningMethodRS512, rsaKey, "rs512"), wrongAlgorithm},
		{"PS256", sign(jwt.SigningMethodPS256, rsaKey, "ps"), wrongAlgorithm},
		{"PS384", sign(jwt.SigningMethodPS384, rsaKey, "any"), wrongAlgorithm},
		{"PS512", sign(jwt.SigningMethodPS512, rsaKey, "any"), wrongAlgorithm},
		{"ES256", sign(jwt.SigningMethodES256, ec, "ec"), wrongAlgorithm},
		{"EdDSA", sign(jwt.SigningMethodEdDSA, edwards, "ed"), wrongAlgorithm},
		{"HS256", sign(jwt.SigningMethodHS256, secret, "hs"), wrongAlgorithm},
		{"HS384", sign(jwt.SigningMethodHS384, secret, "hs"), wrongAlgorithm},
		{"HS512", sign(jwt.SigningMethodHS512, secret, "hs"), wrongAlgorithm},
		{"RS256 with a key for PS256", sign(jwt.SigningMethodRS256, rsaKey, "ps"), unknownKey},
		{"RS256 with a key for RS512", sign(jwt.SigningMethodRS256, rsaKey, "rs512"), unknownKey},
	}...)
	for _, kid := range []string{"ec", "ed", "hs"} {
		f.rule(t, "RS256 that names a key of another kind", hostile{kid, f.token(header(`"k"`, `"`+kid+`"`), f.claims()), unknownKey})
	}
	pss, sum := func() ([]byte, [32]byte) {
		sum := sha256.Sum256([]byte(input(goodHeader, f.claims())))
		signature, err := rsa.SignPSS(rand.Reader, rsaKey, crypto.SHA256, sum[:], nil)
		if err != nil {
			t.Fatal(err)
		}
		return signature, sum
	}()
	sum384 := sha512.Sum384([]byte(input(goodHeader, f.claims())))
	of384, err1 := rsa.SignPKCS1v15(nil, rsaKey, crypto.SHA384, sum384[:])
	unnamed, err2 := rsa.SignPKCS1v15(nil, rsaKey, 0, sum[:])
	if err1 != nil || err2 != nil {
		t.Fatal(err1, err2)
	}
	f.rule(t, "another algorithm that says RS256", []hostile{
		{"PSS", f.with(goodHeader, f.claims(), pss), badSignature},
		{"SHA-384", f.with(goodHeader, f.claims(), of384), badSignature},
		{"a digest that does not say of what", f.with(goodHeader, f.claims(), unnamed), badSignature},
	}...)
}

func (f *forge) badSignatures() (list []hostile) {
	n := issuerKey().N
	claims := f.claims()
	good := rs256(issuerKey(), input(goodHeader, claims))
	s := new(big.Int).SetBytes(good)
	flipped := slices.Clone(good)
	flipped[128] ^= 1
	for name, signature := range map[string][]byte{
		"none":                       nil,
		"one bit":                    flipped,
		"the first byte is missing":  good[1:],
		"the last byte is missing":   good[:255],
		"a leading zero":             append([]byte{0}, good...),
		"a trailing zero":            append(slices.Clone(good), 0),
		"twice":                      append(slices.Clone(good), good...),
		"s + n":                      new(big.Int).Add(s, n).Bytes(),
		"n - s":                      new(big.Int).Sub(n, s).FillBytes(make([]byte, 256)),
		"0":                          make([]byte, 256),
		"1":                          big.NewInt(1).FillBytes(make([]byte, 256)),
		"n":                          n.Bytes(),
		"n - 1":                      new(big.Int).Sub(n, big.NewInt(1)).Bytes(),
		"all ones":                   bytes.Repeat([]byte{0xff}, 256),
		"of a stranger's key":        rs256(strangersKey(), input(goodHeader, claims)),
		"of another token":           rs256(issuerKey(), input(goodHeader, f.claims("ada", "bob"))),
		"of the claims alone":        rs256(issuerKey(), b64.EncodeToString([]byte(claims))),
		"of what is not in base64":   rs256(issuerKey(), goodHeader+"."+claims),
		"of a token without the dot": rs256(issuerKey(), strings.Replace(input(goodHeader, claims), ".", "", 1)),
	} {
		list = append(list, hostile{"signature: " + name, f.with(goodHeader, claims, signature), badSignature})
	}
	return append(list, hostile{"the signature itself", f.with(goodHeader, claims, good), ok})
}

func (f *forge) encrypted() []hostile {
	good := f.token(goodHeader, f.claims())
	part := strings.Split(good, ".")
	jwe := header("RS256", "RSA-OAEP-256", `{`, `{"enc":"A256GCM",`)
	nested := header(`{`, `{"cty":"JWT",`)
	return []hostile{
		{"a JWE", b64.EncodeToString([]byte(jwe)) + ".a.b.c.d", malformed},
		{"a JWE in three parts", f.token(jwe, f.claims()), wrongAlgorithm},
		{"a nested token", f.token(nested, good), malformed},
		{"a nested token in quotes", f.token(nested, `"`+good+`"`), malformed},
		{"JWS JSON serialization", `{"payload":"` + part[1] + `","protected":"` + part[0] + `","signature":"` + part[2] + `"}`, notMine},
		{"JWS JSON serialization, general", `{"payload":"` + part[1] + `","signatures":[{"protected":"` + part[0] + `","signature":"` + part[2] + `"}]}`, notMine},
		{"a detached payload", part[0] + ".." + part[2], malformed},
		{"an unencoded payload", f.token(header(`{`, `{"b64":false,"crit":["b64"],`), f.claims()), malformed},
	}
}
