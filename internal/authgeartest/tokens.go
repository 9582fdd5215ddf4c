package authgeartest

import (
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"maps"
	"math/big"
	"slices"
	"strings"
	"time"
)

const (
	claimPrefix = "https://authgear.com/claims/user/"
	userScope   = "openid offline_access https://authgear.com/scopes/full-access"
)

type signingKey struct {
	kid     string
	created int64
	private *rsa.PrivateKey
}

type jwk struct {
	Alg     string `json:"alg"`
	Created int64  `json:"created_at"`
	E       string `json:"e"`
	Kid     string `json:"kid"`
	Kty     string `json:"kty"`
	N       string `json:"n"`
	Use     string `json:"use"`
}

type jwkSet struct {
	Keys []jwk `json:"keys"`
}

var b64 = base64.RawURLEncoding.Strict()

// JWT returns a live JWT access token of client spa-jwt for 30 minutes. The
// edits are applied before signing; the grant is that of the jti before them.
func (s *Server) JWT(u *User, edit ...func(header, claims map[string]any)) string {
	jti, header, claims := newJTI(), map[string]any{"typ": "at+jwt"}, s.userClaims(u)
	claims["jti"] = jti
	claims["client_id"] = "spa-jwt"
	claims["scope"] = userScope
	claims["aud"] = []string{s.origin}
	claims["exp"] = s.Now().Add(30 * time.Minute).Unix()
	s.completeHeader(header)
	for _, f := range edit {
		f(header, claims)
	}
	s.Grant(JTI, jti, u)
	return s.sign(header, claims)
}

func (s *Server) userClaims(u *User) map[string]any {
	now := s.Now().Unix()
	s.mu.Lock()
	defer s.mu.Unlock()
	return map[string]any{
		"iss": s.origin, "sub": u.ID, "iat": now, "auth_time": now,
		"amr":                              []string{"pwd", "x_primary_password"},
		claimPrefix + "is_anonymous":       u.Anonymous,
		claimPrefix + "is_verified":        u.Verified,
		claimPrefix + "can_reauthenticate": u.CanReauthenticate,
		claimPrefix + "roles":              append([]string{}, u.Roles...),
	}
}

// M2M returns a client_credentials token of a client for a resource. It has
// no grant, so the resolver never accepts it.
func (s *Server) M2M(clientID, resource string) string {
	now := s.Now()
	return s.Sign(map[string]any{"typ": "at+jwt"}, map[string]any{
		"iss": s.origin, "aud": []string{resource}, "sub": "client_id_" + clientID,
		"client_id": clientID, "scope": "read", "jti": newJTI(),
		"iat": now.Unix(), "exp": now.Add(30 * time.Minute).Unix(),
	})
}

// IDToken returns an ID token of client spa-jwt, which is no access token.
func (s *Server) IDToken(u *User) string {
	claims := s.userClaims(u)
	claims["aud"] = []string{"spa-jwt"}
	claims["exp"] = s.Now().Add(5 * time.Minute).Unix()
	claims["sid"] = b64.EncodeToString([]byte("offline_grant:" + newUUID()))
	return s.Sign(map[string]any{"typ": "JWT"}, claims)
}

// Sign returns any token, signed RS256 by the current key. alg and kid are
// added to the header unless it has them; nothing is added to the claims.
func (s *Server) Sign(header, claims map[string]any) string {
	header = maps.Clone(header)
	if header == nil {
		header = map[string]any{}
	}
	s.completeHeader(header)
	return s.sign(header, claims)
}

// sign adds nothing, which keeps out what an edit removed.
func (s *Server) sign(header, claims map[string]any) string {
	input := encodeJSON(header) + "." + encodeJSON(claims)
	sum := sha256.Sum256([]byte(input))
	sig, err := rsa.SignPKCS1v15(nil, s.currentKey().private, crypto.SHA256, sum[:])
	if err != nil {
		panic(fmt.Sprintf("authgeartest: signing: %v", err))
	}
	return input + "." + b64.EncodeToString(sig)
}

func (s *Server) completeHeader(header map[string]any) {
	if _, ok := header["alg"]; !ok {
		header["alg"] = "RS256"
	}
	if _, ok := header["kid"]; !ok {
		header["kid"] = s.currentKey().kid
	}
}

func encodeJSON(v any) string {
	b, err := json.Marshal(v)
	if err != nil {
		panic(fmt.Sprintf("authgeartest: encoding: %v", err))
	}
	return b64.EncodeToString(b)
}

// RotateKey puts a new signing key before the others, which stay published.
func (s *Server) RotateKey() {
	s.currentKey()
	k := s.newKey()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.keys = append([]signingKey{k}, s.keys...)
}

// DropOldKeys publishes the current key alone.
func (s *Server) DropOldKeys() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.keys = s.keys[:min(1, len(s.keys))]
}

// SetKeys publishes a recorded key set as it is, and the resolver verifies by
// it; nil publishes the server's own keys again.
func (s *Server) SetKeys(jwks []byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.jwks = slices.Clone(jwks)
}

// currentKey is the signing key, made when first asked for.
func (s *Server) currentKey() signingKey {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.currentKeyLocked()
}

func (s *Server) currentKeyLocked() signingKey {
	if len(s.keys) == 0 {
		s.keys = []signingKey{s.newKey()}
	}
	return s.keys[0]
}

func (s *Server) newKey() signingKey {
	k, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		panic(fmt.Sprintf("authgeartest: making a key: %v", err))
	}
	return signingKey{kid: newUUID(), created: s.Now().Unix(), private: k}
}

// publishedKeys is the JSON of the key set.
func (s *Server) publishedKeys() []byte {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.jwks != nil {
		return s.jwks
	}
	s.currentKeyLocked()
	var set jwkSet
	for _, k := range s.keys {
		set.Keys = append(set.Keys, k.public())
	}
	b, _ := json.Marshal(set)
	return append(b, '\n')
}

func (k signingKey) public() jwk {
	pub := k.private.PublicKey
	return jwk{
		Alg: "RS256", Created: k.created, Kid: k.kid, Kty: "RSA", Use: "sig",
		E: b64.EncodeToString(big.NewInt(int64(pub.E)).Bytes()),
		N: b64.EncodeToString(pub.N.Bytes()),
	}
}

func (k jwk) publicKey() (*rsa.PublicKey, bool) {
	n, err1 := b64.DecodeString(k.N)
	e, err2 := b64.DecodeString(k.E)
	if err1 != nil || err2 != nil || k.Kty != "RSA" {
		return nil, false
	}
	return &rsa.PublicKey{N: new(big.Int).SetBytes(n), E: int(new(big.Int).SetBytes(e).Int64())}, true
}

// claimsOf verifies a JWT as Authgear's resolver does: signature by a
// published kid, exp, iat and nbf without leeway.
func (s *Server) claimsOf(token string) (map[string]any, bool) {
	parts := strings.Split(token, ".")
	if len(parts) != 3 {
		return nil, false
	}
	header, ok1 := decodeJSON(parts[0])
	claims, ok2 := decodeJSON(parts[1])
	sig, err := b64.DecodeString(parts[2])
	if !ok1 || !ok2 || err != nil || header["alg"] != "RS256" {
		return nil, false
	}
	if !s.verify(header["kid"], parts[0]+"."+parts[1], sig) {
		return nil, false
	}
	return claims, s.timely(claims)
}

func (s *Server) verify(kid any, input string, sig []byte) bool {
	var set jwkSet
	if json.Unmarshal(s.publishedKeys(), &set) != nil {
		return false
	}
	sum := sha256.Sum256([]byte(input))
	for _, k := range set.Keys {
		if k.Kid != kid {
			continue
		}
		if pub, ok := k.publicKey(); ok && rsa.VerifyPKCS1v15(pub, crypto.SHA256, sum[:], sig) == nil {
			return true
		}
	}
	return false
}

func (s *Server) timely(claims map[string]any) bool {
	now := float64(s.Now().Unix())
	if exp, ok := claims["exp"].(float64); ok && now >= exp {
		return false
	}
	for _, name := range []string{"iat", "nbf"} {
		if t, ok := claims[name].(float64); ok && t > now {
			return false
		}
	}
	return true
}

func hasAudience(claims map[string]any, origin string) bool {
	switch aud := claims["aud"].(type) {
	case string:
		return aud == origin
	case []any:
		return slices.Contains(aud, any(origin))
	}
	return false
}

func decodeJSON(part string) (map[string]any, bool) {
	b, err := b64.DecodeString(part)
	if err != nil {
		return nil, false
	}
	var m map[string]any
	return m, json.Unmarshal(b, &m) == nil && m != nil
}

// jtiOf reads the jti of a JWT without verifying it; empty if it is none.
func jtiOf(token string) string {
	parts := strings.Split(token, ".")
	if len(parts) != 3 {
		return ""
	}
	claims, _ := decodeJSON(parts[1])
	jti, _ := claims["jti"].(string)
	return jti
}
