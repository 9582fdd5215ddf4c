package resolver_test

import (
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/base64"
	mathrand "math/rand/v2"
	"testing"

	"authgear-forward-auth/internal/authgeartest"
	"authgear-forward-auth/resolver"
)

func BenchmarkJWT(b *testing.B) {
	s := authgeartest.Start(b, authgeartest.Options{})
	j := verifier(b, s)
	token := s.JWT(s.AddUser(authgeartest.User{Roles: []string{"admin", "editor"}}))
	b.ReportAllocs()
	for b.Loop() {
		if _, err := resolve(j, token); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkSignature is the verification alone, by crypto/rsa.
func BenchmarkSignature(b *testing.B) {
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		b.Fatal(err)
	}
	sum := sha256.Sum256([]byte("signed"))
	signature, err := rsa.SignPKCS1v15(nil, key, crypto.SHA256, sum[:])
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		if err := rsa.VerifyPKCS1v15(&key.PublicKey, crypto.SHA256, sum[:], signature); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkRemote asks the development Authgear, one question after the other.
func BenchmarkRemote(b *testing.B) {
	s := authgeartest.Start(b, authgeartest.Options{})
	token := s.OpaqueToken(s.AddUser(authgeartest.User{}))
	r := remoteOf(s)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := resolve(r, token); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkCredentials(b *testing.B) {
	r := resolver.NewReader("", nil)
	for _, c := range []struct {
		name                  string
		authorization, cookie [][]byte
	}{
		{"JWT", line("Bearer eyJ" + random(600) + "." + random(342)), nil},
		{"opaque token", line("Bearer " + random(32)), nil},
		{"session cookie", nil, line("_ga=GA1.1.1234567890.1700000000; theme=dark; session=4098a1a2-805e-4235-9698-8708fb27df95." + random(32))},
	} {
		b.Run("read/"+c.name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				var list [4]resolver.Credential
				if len(r.Read(list[:0], c.authorization, c.cookie).List) != 1 {
					b.Fatal("nothing was found")
				}
			}
		})
		creds := r.Read(nil, c.authorization, c.cookie)
		b.Run("key/"+c.name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				creds.Key()
			}
		})
	}
}

// random returns as many characters as random as those of a token, which a processor cannot
// foresee.
func random(n int) string {
	b := make([]byte, n)
	mathrand.NewChaCha8([32]byte{}).Read(b)
	return base64.RawURLEncoding.EncodeToString(b)[:n]
}

func line(s string) [][]byte { return [][]byte{[]byte(s)} }
