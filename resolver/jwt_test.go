package resolver_test

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"
	"unsafe"

	"authgear-forward-auth/internal/authgeartest"
	"authgear-forward-auth/resolver"
)

type edit = func(header, claims map[string]any)

func verifier(t testing.TB, s *authgeartest.Server) *resolver.JWT {
	keys := resolver.NewKeys(s.Origin(), 5*time.Second, func(err error) { t.Log(err) })
	return &resolver.JWT{Issuer: s.Origin(), Audiences: []string{s.Origin(), "https://api.example.com"}, Skew: 30 * time.Second, Keys: keys}
}

func resolve(r resolver.Resolver, token string) (*resolver.Session, error) {
	return r.Resolve(context.Background(), resolver.Credentials{List: []resolver.Credential{{Slot: resolver.Bearer, Value: token}}})
}

func reasonOf(err error) resolver.Reason {
	var inv *resolver.InvalidError
	var out *resolver.UnavailableError
	switch {
	case err == nil:
		return resolver.OK
	case errors.As(err, &inv):
		return inv.Reason
	case errors.As(err, &out):
		return out.Reason
	}
	return resolver.Reason(err.Error())
}

func set(name string, value any) edit {
	return func(header, claims map[string]any) {
		if target, ok := strings.CutPrefix(name, "header:"); ok {
			header[target] = value
			return
		}
		claims[name] = value
	}
}

func without(name string) edit { return func(_, claims map[string]any) { delete(claims, name) } }

// A JWT beside something else is not judged by itself: Authgear judges them together.
func TestAJWTIsJudgedAlone(t *testing.T) {
	s := authgeartest.Start(t, authgeartest.Options{})
	token := resolver.Credential{Slot: resolver.Bearer, Value: s.JWT(s.AddUser(authgeartest.User{ID: "ada"}))}
	for _, list := range [][]resolver.Credential{nil, {token, {Slot: resolver.IDPSession, Value: "x"}}, {{Slot: resolver.IDPSession, Value: "x"}, token}} {
		if _, err := verifier(t, s).Resolve(context.Background(), resolver.Credentials{List: list}); err != resolver.ErrNotMine {
			t.Errorf("%d credentials: %v, want ErrNotMine", len(list), err)
		}
	}
}

func TestJWT(t *testing.T) {
	s := authgeartest.Start(t, authgeartest.Options{})
	j := verifier(t, s)
	j.ClientIDs = []string{"spa-jwt"}
	ada := s.AddUser(authgeartest.User{ID: "ada"})
	now := time.Now().Unix()
	for _, tt := range []struct {
		name string
		edit edit
		want resolver.Reason
	}{
		{"as issued", func(_, _ map[string]any) {}, resolver.OK},
		{"typ in capitals", set("header:typ", "AT+JWT"), resolver.OK},
		{"typ as a media type", set("header:typ", "application/at+jwt"), resolver.OK},
		{"aud is one of several", set("aud", []string{"x", s.Origin()}), resolver.OK},
		{"aud is a string", set("aud", s.Origin()), resolver.OK},
		{"expired within the skew", set("exp", now-10), resolver.OK},
		{"issued in the future within the skew", set("iat", now+10), resolver.OK},
		{"an ID token's typ", set("header:typ", "JWT"), resolver.WrongType},
		{"no typ", set("header:typ", ""), resolver.WrongType},
		{"RFC 8725 §3.1: HS256", set("header:alg", "HS256"), resolver.WrongAlgorithm},
		{"RFC 8725 §3.1: none", set("header:alg", "none"), resolver.WrongAlgorithm},
		{"RFC 8725 §3.1: PS256", set("header:alg", "PS256"), resolver.WrongAlgorithm},
		{"RFC 8725 §3.10: jku", set("header:jku", "https://evil.example/jwks"), resolver.MalformedCredential},
		{"RFC 8725 §3.10: x5u", set("header:x5u", "https://evil.example/x"), resolver.MalformedCredential},
		{"RFC 8725 §3.10: jwk", set("header:jwk", map[string]any{"kty": "RSA"}), resolver.MalformedCredential},
		{"RFC 7515 §4.1.11: crit", set("header:crit", []string{"exp"}), resolver.MalformedCredential},
		{"RFC 7797: b64", set("header:b64", true), resolver.MalformedCredential},
		{"no kid", set("header:kid", ""), resolver.MalformedCredential},
		{"kid is a number", set("header:kid", 1), resolver.MalformedCredential},
		{"another kid", set("header:kid", "../../etc/passwd"), resolver.UnknownKey},
		{"another issuer", set("iss", "https://evil.example"), resolver.WrongIssuer},
		{"the issuer and a slash", set("iss", s.Origin()+"/"), resolver.WrongIssuer},
		{"another audience", set("aud", []string{"https://evil.example"}), resolver.WrongAudience},
		{"no audience", without("aud"), resolver.WrongAudience},
		{"no exp", without("exp"), resolver.MalformedCredential},
		{"exp is a fraction", set("exp", float64(now)+0.5), resolver.MalformedCredential},
		{"exp is a text", set("exp", "9999999999"), resolver.MalformedCredential},
		{"exp is no time", set("exp", int64(1)<<60), resolver.MalformedCredential},
		{"expired", set("exp", now-40), resolver.Expired},
		{"no iat", without("iat"), resolver.MalformedCredential},
		{"issued in the future", set("iat", now+60), resolver.NotYetValid},
		{"not yet valid", set("nbf", now+60), resolver.NotYetValid},
		{"no client_id", without("client_id"), resolver.MalformedCredential},
		{"another client", set("client_id", "x"), resolver.WrongClient},
		{"no jti", without("jti"), resolver.MalformedCredential},
		{"no sub", without("sub"), resolver.MalformedCredential},
		{"bound to a key", set("cnf", map[string]any{"jkt": "x"}), resolver.WrongType},
		{"no is_anonymous", without("https://authgear.com/claims/user/is_anonymous"), resolver.WrongType},
		{"a line break in the user id", set("sub", "ada\r\nX-Authgear-User-Roles: admin"), resolver.MalformedCredential},
		{"a comma in a role", set("https://authgear.com/claims/user/roles", []string{"a,admin"}), resolver.MalformedCredential},
		{"deep claims", set("x", []any{[]any{[]any{[]any{[]any{[]any{[]any{[]any{}}}}}}}}), resolver.MalformedCredential},
		{"huge claims", set("x", strings.Repeat("x", 17<<10)), resolver.MalformedCredential},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got, err := resolve(j, s.JWT(ada, tt.edit))
			if reasonOf(err) != tt.want {
				t.Errorf("Resolve = %v, %v, want %s", got, err, tt.want)
			}
		})
	}
}

func TestAMachineIsToldApart(t *testing.T) {
	s := authgeartest.Start(t, authgeartest.Options{})
	now := time.Now().Unix()
	robot := s.Sign(map[string]any{"typ": "at+jwt"}, map[string]any{"iss": s.Origin(), "aud": []string{"https://api.example.com"}, "sub": "client_id_robot",
		"client_id": "robot", "jti": "1", "iat": now, "exp": now + 60, "scope": "read:orders"})
	j := verifier(t, s)
	got, err := resolve(j, robot)
	if err != nil || !got.Machine || got.UserID != "" || got.ClientID != "robot" || got.Scope != "read:orders" {
		t.Fatalf("Resolve = %+v, %v", got, err)
	}
	turn := &resolver.InTurn{Next: j}
	c := resolver.Credentials{List: []resolver.Credential{{Slot: resolver.Bearer, Value: robot}}}
	if _, err := turn.Resolve(context.Background(), c); reasonOf(err) != resolver.MachineToken {
		t.Errorf("where no machine may pass: %v, want machine_token", err)
	}
	turn.Machine = true
	if _, err := turn.Resolve(context.Background(), c); err != nil {
		t.Errorf("where machines may pass: %v", err)
	}
}

// One token has one text; others must not even be looked at.
// What a session tells is its own: the memory of the token is used again once it is known, and
// so is that in which it was read.
func TestASessionKeepsNothingOfTheToken(t *testing.T) {
	s := authgeartest.Start(t, authgeartest.Options{})
	j := verifier(t, s)
	user := func(name string) []byte {
		return []byte(s.JWT(s.AddUser(authgeartest.User{ID: name, Roles: []string{"role-of-" + name}}), func(_, claims map[string]any) {
			claims["client_id"], claims["scope"], claims["amr"] = "client-"+name, "scope-"+name, []string{"amr-" + name}
		}))
	}
	text := func(s *resolver.Session) string { return fmt.Sprintf("%+v", *s) }
	token, another := user("ada"), user("bob")
	ada, err := resolve(j, unsafe.String(&token[0], len(token)))
	if err != nil {
		t.Fatal(err)
	}
	before := text(ada)
	clear(token)
	if bob, err := resolve(j, string(another)); err != nil || text(ada) != before || strings.Contains(text(bob), "ada") {
		t.Errorf("%v, %v; it was %s", ada, err, before)
	}
	if _, err := resolve(j, string(another)); err != nil { // whose header is known
		t.Error(err)
	}
}

func TestATokenHasOneText(t *testing.T) {
	s := authgeartest.Start(t, authgeartest.Options{})
	j := verifier(t, s)
	token := s.JWT(s.AddUser(authgeartest.User{ID: "ada"}))
	part := strings.Split(token, ".")
	signature, err := base64.RawURLEncoding.DecodeString(part[2])
	if err != nil {
		t.Fatal(err)
	}
	stray := []byte(part[2])
	stray[len(stray)-1]++ // 256 bytes leave four bits of the last letter unused
	for name, text := range map[string]string{
		"padding":           token + "==",
		"stray bits":        part[0] + "." + part[1] + "." + string(stray),
		"a line break":      part[0] + "." + part[1] + "." + part[2][:8] + "\n" + part[2][8:],
		"standard base64":   part[0] + "." + part[1] + "." + base64.RawStdEncoding.EncodeToString(signature) + "+",
		"two parts":         part[0] + "." + part[1],
		"four parts":        token + ".x",
		"five parts (JWE)":  token + ".x.y",
		"no signature":      part[0] + "." + part[1] + ".",
		"duplicate members": base64.RawURLEncoding.EncodeToString([]byte(`{"alg":"none","alg":"RS256","typ":"at+jwt","kid":"x"}`)) + "." + part[1] + "." + part[2],
		"other letter case": base64.RawURLEncoding.EncodeToString([]byte(`{"ALG":"RS256","typ":"at+jwt","kid":"x"}`)) + "." + part[1] + "." + part[2],
		"header is a list":  "eyJ" + base64.RawURLEncoding.EncodeToString([]byte(`[]`)) + "." + part[1] + "." + part[2],
	} {
		if got, err := resolve(j, text); !errors.Is(err, resolver.ErrInvalid) {
			t.Errorf("%s: Resolve = %v, %v, want ErrInvalid", name, got, err)
		}
	}
	if _, err := resolve(j, token); err != nil {
		t.Errorf("the token itself: %v", err)
	}
}

// A sign-in before all time is at none that is known.
func TestATimeOfSignInThatIsNone(t *testing.T) {
	s := authgeartest.Start(t, authgeartest.Options{})
	token := s.JWT(s.AddUser(authgeartest.User{ID: "ada"}), set("auth_time", -5))
	if got, err := resolve(verifier(t, s), token); err != nil || got.AuthenticatedAt != 0 {
		t.Errorf("%+v, %v", got, err)
	}
}
