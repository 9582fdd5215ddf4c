package lab

import (
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"strings"
	"time"

	"authgear-forward-auth/internal/authgeartest"
)

// A Session is a user who signed in, and how the requests say so. The zero Session is a
// visitor.
type Session struct {
	User         *authgeartest.User
	IsJWT        bool
	Credential   string
	Field, Value string
}

// SignIn returns new sessions of as many users, of each kind in turn.
func (a *Authority) SignIn(n int) []*Session {
	var list []*Session
	for i := range n {
		list = append(list, a.SignInAs(i, authgeartest.User{CanReauthenticate: true}))
	}
	return list
}

// SignInAs returns a session of a new user, of the i-th kind: JWT, opaque token, cookie. It
// outlasts any run.
func (a *Authority) SignInAs(i int, user authgeartest.User) *Session {
	s := &Session{User: a.AddUser(user)}
	switch i % 3 {
	case 0:
		s.IsJWT, s.Credential = true, a.JWT(s.User, func(_, claims map[string]any) { claims["exp"] = time.Now().Add(24 * time.Hour).Unix() })
	case 1:
		s.Credential = a.OpaqueToken(s.User)
	case 2:
		s.Credential = a.SessionCookie(s.User)
	}
	s.Field, s.Value = "Authorization", "Bearer "+s.Credential
	if i%3 == 2 {
		s.Field, s.Value = "Cookie", "session="+s.Credential
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.questions[s.Credential] = 0
	return s
}

// A Forger makes tokens that look like Authgear's.
type Forger struct {
	salt   uint64
	header string // of a real token
	claims string // of a real token, but for its jti
}

// NewForger returns a Forger who has seen one token.
func NewForger(a *Authority) *Forger {
	real := a.JWT(a.AddUser(authgeartest.User{}), func(_, claims map[string]any) { claims["jti"] = "JTI" })
	parts := strings.Split(real, ".")
	claims, err := base64.RawURLEncoding.DecodeString(parts[1])
	if err != nil {
		panic(err) // we have made it
	}
	return &Forger{salt: rand.Uint64(), header: parts[0], claims: string(claims)}
}

// Token returns the i-th one: one that looks opaque, a JWT by a key that there is
// not, and one with a bad signature, in turn.
func (f *Forger) Token(i int64) string {
	switch i % 3 {
	case 0:
		return f.Opaque(i)
	case 1:
		return f.UnknownKey(i)
	}
	return f.BadSignature(i)
}

// Opaque returns a token that looks opaque.
func (f *Forger) Opaque(i int64) string { return fmt.Sprintf("%016x%016x", f.salt, i) }

// UnknownKey returns a JWT by a key that there is not.
func (f *Forger) UnknownKey(i int64) string {
	return f.jwt(base64.RawURLEncoding.EncodeToString([]byte(`{"alg":"RS256","kid":"`+f.Opaque(i)+`","typ":"at+jwt"}`)), i)
}

// BadSignature returns a JWT that Authgear did not sign.
func (f *Forger) BadSignature(i int64) string { return f.jwt(f.header, i) }

func (f *Forger) jwt(header string, i int64) string {
	var signature [256]byte
	binary.BigEndian.PutUint64(signature[1:], f.salt)
	binary.BigEndian.PutUint64(signature[9:], uint64(i))
	return header + "." + base64.RawURLEncoding.EncodeToString([]byte(strings.Replace(f.claims, "JTI", f.Opaque(i), 1))) + "." +
		base64.RawURLEncoding.EncodeToString(signature[:])
}

// A Bearer is a session that is nobody's, or whose user is not looked at.
func Bearer(token string) *Session {
	return &Session{Credential: token, Field: "Authorization", Value: "Bearer " + token}
}
