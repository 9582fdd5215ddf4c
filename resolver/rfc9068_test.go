package resolver_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"authgear-forward-auth/internal/authgeartest"
	"authgear-forward-auth/resolver"
)

// How a resource server validates an access token, RFC 9068 §4, and the claims that one
// has, §2.2.
func TestRFC9068(t *testing.T) {
	f := newForge(t)
	signed := func(claims string) string { return f.token(goodHeader, claims) }
	claims := f.claims()
	expires := func(at int64) string { return f.claims(`"exp":`, fmt.Sprintf(`"exp":%d,"_":`, at)) }
	now := time.Now().Unix()
	stranger := f.with(goodHeader, claims, rs256(strangersKey(), input(goodHeader, claims)))

	f.rule(t, "4 typ is at+jwt or application/at+jwt", []hostile{
		{"at+jwt", signed(claims), ok},
		{"application/at+jwt", f.token(header("at+jwt", "application/at+jwt"), claims), ok},
		{"JWT", f.token(header("at+jwt", "JWT"), claims), wrongType},
		{"none", f.token(header(`,"typ":"at+jwt"`, ""), claims), wrongType},
	}...)
	f.rule(t, "4 an encrypted token is decrypted as was agreed: nothing was", hostile{"a JWE", signed(claims) + ".a.b", malformed})
	f.rule(t, "4 iss is exactly the issuer's identifier", f.issuers()...)
	f.rule(t, "4 aud has an identifier of the resource server", f.audiences()...)
	f.rule(t, "4 the signature is validated by the alg of the header, with the issuer's keys", []hostile{
		{"a stranger's", stranger, badSignature},
		{"alg none", f.with(header("RS256", "none"), claims, nil), wrongAlgorithm},
		{"another kid", f.token(header(`"k"`, `"x"`), claims), unknownKey},
	}...)
	f.rule(t, "4 the time is before exp", []hostile{
		{"a second within the leeway", signed(expires(now - 20)), ok},
		{"behind the leeway", signed(expires(now - 31)), resolver.Expired},
		{"1970", signed(expires(0)), resolver.Expired},
		{"no exp", signed(f.claims(`"exp"`, `"_"`)), malformed},
	}...)
	t.Run("4 authorization claims are used", func(t *testing.T) {
		s, err := resolve(f.jwt, signed(claims))
		if err != nil || s.Roles != "editor" || s.Scope != "openid" || s.UserID != "ada" || s.ClientID != "spa" || s.AuthenticatedAt == 0 {
			t.Errorf("Resolve = %+v, %v, want the roles, scope, user, client and time of sign-in of the token", s, err)
		}
	})
	var missing []hostile
	for claim, want := range map[string]resolver.Reason{
		"iss": wrongIssuer, "exp": malformed, "aud": wrongAudience, "sub": malformed, "client_id": malformed, "iat": malformed, "jti": malformed,
	} {
		renamed := edited(claims, []string{`"` + claim + `"`, `"x` + claim + `"`})
		missing = append(missing, hostile{"no " + claim, signed(renamed), want}, hostile{claim + " is null", signed(edited(renamed, []string{`{`, `{"` + claim + `":null,`})), want})
	}
	f.rule(t, "2.2 required claims", missing...)
}

// What else the issuer's own key may have signed, by a slip, a hook, or somebody who may
// choose a name: nothing of it may be misread or reach a field.
func TestHostileClaims(t *testing.T) {
	f := newForge(t)
	signed := func(edits ...string) string { return f.token(goodHeader, f.claims(edits...)) }
	var times []hostile
	for _, name := range []string{"exp", "nbf", "iat"} {
		for text, want := range map[string]resolver.Reason{
			`1e10`: malformed, `1.5`: malformed, `1800000000.0`: malformed, `"1800000000"`: malformed, `-1`: malformed, `-0`: "", `253402300800`: malformed, `9223372036854775807`: malformed,
			`9223372036854775808`: malformed, `-9223372036854775808`: malformed, `18446744073709551615`: malformed, `99999999999999999999999999`: malformed, `1e999`: malformed,
			`NaN`: malformed, `Infinity`: malformed, `"NaN"`: malformed, `0x7fffffff`: malformed, `017`: malformed, `+1`: malformed, `true`: malformed, `[1]`: malformed, `{}`: malformed,
		} {
			claims := f.also(`"` + name + `":` + text)
			if name != "nbf" { // take its place
				claims = edited(claims, []string{`,"` + name + `":`, `,"_":`})
			}
			if text == "-0" { // is 0
				want = map[string]resolver.Reason{"exp": resolver.Expired, "nbf": ok, "iat": ok}[name]
			}
			times = append(times, hostile{name + " is " + text, f.token(goodHeader, claims), want})
		}
	}
	f.rule(t, "times", append(times,
		hostile{"nbf is null", f.token(goodHeader, f.also(`"nbf":null`)), ok},
		hostile{"nbf is to come", f.token(goodHeader, f.also(`"nbf":253402300799`)), resolver.NotYetValid},
		hostile{"auth_time is a text", signed(`"auth_time":`, `"auth_time":"x","_":`), malformed},
	)...)

	const roles = `["editor"]`
	f.rule(t, "what would be told in a field", []hostile{
		{"CR and LF in a role", signed(roles, `["a\r\nX-Authgear-User-Id: root"]`), malformed},
		{"NUL in a role", signed(roles, `["a\u0000"]`), malformed},
		{"a comma in a role", signed(roles, `["a,admin"]`), malformed},
		{"an empty role", signed(roles, `["","a"]`), malformed},
		{"a space in a role", signed(roles, `["a b"]`), malformed},
		{"a role that is null", signed(roles, `[null]`), malformed},
		{"roles in a text", signed(roles, `"admin"`), malformed},
		{"roles are null", signed(roles, `null`), ok},
		{"roles twice", signed(roles, roles+`,"https://authgear.com/claims/user/roles":["admin"]`), malformed},
		{"roles twice, escaped", signed(roles, roles+`,"https:\/\/authgear.com\/claims\/user\/roles":["admin"]`), malformed},
		{"LF in client_id", signed(`"spa"`, `"spa\n"`), malformed},
		{"DEL in client_id", signed(`"spa"`, `"spa\u007f"`), malformed},
		{"CR in scope", signed(`"openid"`, `"openid\radmin"`), malformed},
		{"a tab in scope", signed(`"openid"`, `"openid\tadmin"`), malformed},
		{"a non-breaking space in scope", signed(`"openid"`, `"openid\u00a0admin"`), malformed},
		{"scope in a list", signed(`"openid"`, `["openid"]`), malformed},
		{"LF in amr", f.token(goodHeader, f.also(`"amr":["pwd\nmfa"]`)), malformed},
		{"a space in amr", f.token(goodHeader, f.also(`"amr":["pwd mfa"]`)), malformed},
		{"NUL where no field tells it", f.token(goodHeader, f.also(`"name":"\u0000"`)), ok},
	}...)

	deep := func(n int) string { return strings.Repeat(`[`, n) + strings.Repeat(`]`, n) }
	f.rule(t, "JSON", []hostile{
		{"members twice in an object that nobody reads", f.token(goodHeader, f.also(`"x":{"a":1,"a":2}`)), malformed},
		{"members twice in the header, within an object", f.token(header(`{`, `{"x":{"a":1,"\u0061":2},`), f.claims()), malformed},
		{"7 deep", f.token(goodHeader, f.also(`"x":`+deep(7))), ok},
		{"8 deep", f.token(goodHeader, f.also(`"x":`+deep(8))), malformed},
		{"5,000 deep", f.token(goodHeader, f.also(`"x":`+deep(5000))), malformed},
		{"deep and not closed", f.token(goodHeader, strings.Repeat(`{"x":`, 2000)), malformed},
		{"a deep header", f.token(header(`{`, `{"x":`+deep(5000)+`,`), f.claims()), malformed},
		{"brackets in a text are none", f.token(goodHeader, f.also(`"x":"`+deep(99)+`\"[[[[[[[[["`)), ok},
		{"huge", f.token(goodHeader, f.also(`"x":"`+strings.Repeat("x", 1<<20)+`"`)), malformed},
		{"2,000 members", f.token(goodHeader, f.also(members(2000))), malformed},
		{"500 members", f.token(goodHeader, f.also(members(500))), ok},
		{"a long number", f.token(goodHeader, f.also(`"x":`+strings.Repeat("9", 8000))), ok},
		{"a second object behind", f.token(goodHeader, f.claims()+`{}`), malformed},
		{"a space behind", f.token(goodHeader, f.claims()+" "), ok},
		{"a space before", f.token(goodHeader, " "+f.claims()), malformed},
		{"a NUL behind", f.token(goodHeader, f.claims()+"\x00"), malformed},
		{"a comma behind the last", f.token(goodHeader, f.claims(`]}`, `],}`)), malformed},
		{"a comment", f.token(goodHeader, f.claims(`{`, `{/**/`)), malformed},
		{"single quotes", f.token(goodHeader, strings.ReplaceAll(f.claims(), `"`, `'`)), malformed},
		{"a list", f.token(goodHeader, "["+f.claims()+"]"), malformed},
		{"a text", f.token(goodHeader, `"x"`), malformed},
		{"null", f.token(goodHeader, `null`), malformed},
		{"nothing", f.token(goodHeader, ``), malformed},
		{"__proto__", f.token(goodHeader, f.also(`"__proto__":{"sub":"root"}`)), ok},
		{"names in capitals", f.token(goodHeader, f.also(`"SUB":"root","Sub":"root","sUB":"root"`)), ok},
	}...)
	if s, err := resolve(f.jwt, f.token(goodHeader, f.also(`"SUB":"root","Client_ID":"root"`))); err != nil || s.UserID != "ada" || s.ClientID != "spa" {
		t.Errorf("names in another letter case: Resolve = %+v, %v, want ada by spa", s, err)
	}
}

func members(n int) string {
	list := make([]string, n)
	for i := range list {
		list[i] = fmt.Sprintf(`"x%d":1`, i)
	}
	return strings.Join(list, ",")
}

// The fake Authgear's own tokens, as they come.
func TestKindsOfTokens(t *testing.T) {
	s := authgeartest.Start(t, authgeartest.Options{})
	f := &forge{s, verifier(t, s)}
	ada := s.AddUser(authgeartest.User{ID: "ada"})
	f.rule(t, "of Authgear", []hostile{
		{"a JWT access token", s.JWT(ada), ok},
		{"an opaque access token", s.OpaqueToken(ada), notMine},
		{"an ID token", s.IDToken(ada), wrongType},
		{"a machine's", s.M2M("robot", "https://api.example.com"), ok},
		{"a machine's, for another resource", s.M2M("robot", "https://other.example"), wrongAudience},
	}...)
}
