package resolver_test

import (
	"bytes"
	"compress/flate"
	"strings"
	"testing"

	"authgear-forward-auth/resolver"
)

// Shorter names for the reasons of the tables below.
const (
	ok             = resolver.OK
	malformed      = resolver.MalformedCredential
	badSignature   = resolver.BadSignature
	unknownKey     = resolver.UnknownKey
	wrongAlgorithm = resolver.WrongAlgorithm
	wrongType      = resolver.WrongType
	wrongIssuer    = resolver.WrongIssuer
	wrongAudience  = resolver.WrongAudience
)

func (f *forge) compressed() []hostile {
	var b bytes.Buffer
	w, err := flate.NewWriter(&b, flate.BestCompression)
	if err != nil {
		panic(err)
	}
	w.Write([]byte(f.claims()))
	w.Close()
	zip := header(`{`, `{"zip":"DEF",`)
	return []hostile{
		{"compressed claims", f.token(zip, b.String()), malformed},
		{"compressed claims that do not say so", f.token(goodHeader, b.String()), malformed},
		{"a compressed JWE", b64.EncodeToString([]byte(header("RS256", "dir", `{`, `{"zip":"DEF","enc":"A256GCM",`))) + ".a.b.c.d", malformed},
		{"zip in a JWS means nothing", f.token(zip, f.claims()), ok},
	}
}

func (f *forge) notUTF8() []hostile {
	utf16 := func(s string) string {
		var b strings.Builder
		for _, r := range s {
			b.WriteByte(byte(r))
			b.WriteByte(0)
		}
		return b.String()
	}
	return []hostile{
		{"a byte order mark before the claims", f.token(goodHeader, "\ufeff"+f.claims()), malformed},
		{"a byte order mark before the header", f.token("\ufeff"+goodHeader, f.claims()), notMine},
		{"claims in UTF-16", f.token(goodHeader, utf16(f.claims())), malformed},
		{"claims in UTF-16 with a mark", f.token(goodHeader, "\xff\xfe"+utf16(f.claims())), malformed},
		{"a byte that is none", f.token(goodHeader, f.claims("ada", "a\xffda")), malformed},
		{"a byte that is none, in a claim that nobody reads", f.token(goodHeader, f.also("\"x\":\"\x80\"")), malformed},
		{"a byte that is none, in a name", f.token(goodHeader, f.also("\"\xc3\":1")), malformed},
		{"a byte that is none, in the header", f.token(header(`{`, "{\"x\":\"\xff\","), f.claims()), malformed},
		{"a letter of too many bytes", f.token(goodHeader, f.also("\"x\":\"\xc0\xae\"")), malformed},
		{"half a surrogate pair in bytes", f.token(goodHeader, f.also("\"x\":\"\xed\xa0\x80\"")), malformed},
		{"half a surrogate pair", f.token(goodHeader, f.also(`"x":"\ud800"`)), malformed},
		{"half a surrogate pair in a name", f.token(goodHeader, f.also(`"\udc00":1`)), malformed},
		{"a surrogate pair", f.token(goodHeader, f.also(`"x":"\ud83d\ude00"`)), ok},
		{"UTF-8 where no field tells it", f.token(goodHeader, f.also(`"name":"Ädä"`)), ok},
		{"UTF-8 where a field would tell it", f.token(goodHeader, f.claims("ada", "ädä")), malformed},
	}
}

func (f *forge) issuers() (list []hostile) {
	iss := f.issuer.Origin()
	for _, other := range []string{
		`"https://evil.example"`, `"` + iss + `/"`, `"` + iss + `."`, `"` + strings.ToUpper(iss) + `"`, `"` + iss + `\u0000"`, `" ` + iss + `"`, `"` + iss + ` "`,
		`"` + strings.Replace(iss, "http:", "https:", 1) + `"`, `"` + iss + `#"`, `"` + iss + `?"`, `"` + strings.Replace(iss, "//", "//evil@", 1) + `"`, `""`, `null`,
	} {
		list = append(list, hostile{"iss is " + other, f.token(goodHeader, f.claims(`"`+iss+`"`, other)), wrongIssuer})
	}
	return append(list,
		hostile{"no iss", f.token(goodHeader, f.claims(`"iss":"`+iss+`",`, "")), wrongIssuer},
		hostile{"iss is a list", f.token(goodHeader, f.claims(`"`+iss+`"`, `["`+iss+`"]`)), malformed},
		hostile{"iss twice", f.token(goodHeader, f.claims(`{`, `{"iss":"https://evil.example",`)), malformed},
		hostile{"iss twice, escaped", f.token(goodHeader, f.claims(`{`, `{"\u0069ss":"https://evil.example",`)), malformed},
		hostile{"Iss", f.token(goodHeader, f.claims(`"iss"`, `"Iss"`)), wrongIssuer},
		hostile{"the issuer's name, a stranger's key", f.with(goodHeader, f.claims(), rs256(strangersKey(), input(goodHeader, f.claims()))), badSignature},
		hostile{"the issuer's name and a key that it has not", f.token(header(`"k"`, `"another"`), f.claims()), unknownKey},
	)
}

func (f *forge) subjects() (list []hostile) {
	for _, sub := range []string{`""`, `null`, `0`, `["ada"]`, `{}`, `true`, `" "`, `"a da"`, `"ada\u0000"`, `"ada\r\nX-Authgear-User-Roles: admin"`, `"ada\n"`, `"\u007f"`, `"ada\u2028"`, `"ada","sub":"bob"`, `"ada","s\u0075b":"bob"`} {
		list = append(list, hostile{"sub is " + sub, f.token(goodHeader, f.claims(`"ada"`, sub)), malformed})
	}
	return append(list, hostile{"no sub", f.token(goodHeader, f.claims(`"sub":"ada",`, "")), malformed})
}

func (f *forge) audiences() (list []hostile) {
	const aud = `["https://api.example.com"]`
	for text, want := range map[string]resolver.Reason{
		`"https://api.example.com"`:                           ok,
		`["https://other.example","https://api.example.com"]`: ok,
		`["` + f.issuer.Origin() + `"]`:                       ok,
		`["https://other.example"]`:                           wrongAudience,
		`"https://api.example.com/"`:                          wrongAudience,
		`"https://api.example"`:                               wrongAudience,
		`"https://api.example.com.evil.example"`:              wrongAudience,
		`"https://API.example.com"`:                           wrongAudience,
		`"https://other.example https://api.example.com"`:     wrongAudience,
		`"https://other.example,https://api.example.com"`:     wrongAudience,
		`"*"`:                               wrongAudience,
		`""`:                                wrongAudience,
		`[]`:                                wrongAudience,
		`[""]`:                              wrongAudience,
		`[null]`:                            wrongAudience,
		`null`:                              wrongAudience,
		`["https://api.example.com",1]`:     malformed,
		`[["https://api.example.com"]]`:     malformed,
		`{"aud":"https://api.example.com"}`: malformed,
		`1`:                                 malformed,
		`true`:                              malformed,
		`["https://other.example"],"aud":"https://api.example.com"`:      malformed,
		`["https://other.example"],"\u0061ud":"https://api.example.com"`: malformed,
		`["https://other.example"],"AUD":"https://api.example.com"`:      wrongAudience,
	} {
		list = append(list, hostile{"aud is " + text, f.token(goodHeader, f.claims(aud, text)), want})
	}
	return append(list, hostile{"no aud", f.token(goodHeader, f.claims(`"aud":`+aud+`,`, "")), wrongAudience})
}

func (f *forge) types() (list []hostile) {
	for typ, want := range map[string]resolver.Reason{
		`"at+jwt"`: ok, `"AT+JWT"`: ok, `"application/at+jwt"`: ok, `"Application/At+Jwt"`: ok, `"at\u002bjwt"`: ok,
		`"JWT"`: wrongType, `"jwt"`: wrongType, `""`: wrongType, `null`: wrongType, `"at+jwt "`: wrongType, `" at+jwt"`: wrongType, `"at+jwt;v=1"`: wrongType, `"at jwt"`: wrongType,
		`"text/at+jwt"`: wrongType, `"application/application/at+jwt"`: wrongType, `"/at+jwt"`: wrongType, `"at+jwt\u0000"`: wrongType, `"at+jwts"`: wrongType,
		`"id+jwt"`: wrongType, `"dpop+jwt"`: wrongType, `"logout+jwt"`: wrongType, `"secevent+jwt"`: wrongType, `"token-introspection+jwt"`: wrongType, `"rt+jwt"`: wrongType,
		`["at+jwt"]`: malformed, `1`: malformed, `"JWT","typ":"at+jwt"`: malformed, `"at+jwt","t\u0079p":"JWT"`: malformed,
	} {
		list = append(list, hostile{"typ is " + typ, f.token(header(`"at+jwt"`, typ), f.claims()), want})
	}
	return append(list,
		hostile{"no typ", f.token(header(`,"typ":"at+jwt"`, ""), f.claims()), wrongType},
		hostile{"typ among the claims", f.token(header(`,"typ":"at+jwt"`, ""), f.also(`"typ":"at+jwt"`)), wrongType},
		hostile{"cty instead of typ", f.token(header(`"typ"`, `"cty"`), f.claims()), wrongType},
	)
}

func testOtherKinds(t *testing.T) {
	f := newForge(t)
	const anonymous = `"https://authgear.com/claims/user/is_anonymous":false,`
	id := f.claims(`"aud":["https://api.example.com"]`, `"aud":["spa"],"nonce":"n","sid":"s"`, `"client_id":"spa","jti":"1",`, "")
	robot := f.claims(`"ada"`, `"client_id_robot"`, anonymous, "")
	f.rule(t, "tokens of the issuer", []hostile{
		{"an ID token", f.token(header("at+jwt", "JWT"), id), wrongType},
		{"an ID token that says at+jwt", f.token(goodHeader, id), wrongAudience},
		{"an ID token that says at+jwt and has our audience", f.token(goodHeader, f.claims(`"client_id":"spa","jti":"1",`, `"nonce":"n",`)), malformed},
		{"a logout token", f.token(header("at+jwt", "logout+jwt"), f.also(`"events":{"http://schemas.openid.net/event/backchannel-logout":{}}`)), wrongType},
		{"a token that is bound to a key", f.token(goodHeader, f.also(`"cnf":{"jkt":"x"}`)), wrongType},
		{"a token that is bound to nothing", f.token(goodHeader, f.also(`"cnf":null`)), wrongType},
		{"a token of something else than a user", f.token(goodHeader, f.claims(anonymous, "")), wrongType},
		{"is_anonymous is null", f.token(goodHeader, f.claims(anonymous, strings.Replace(anonymous, "false", "null", 1))), wrongType},
		{"is_anonymous is a text", f.token(goodHeader, f.claims(anonymous, strings.Replace(anonymous, "false", `"false"`, 1))), malformed},
		{"a refresh token, which has a dot", "9f7f4d5e-1c0a-4d0e-a3f4-0f1b4a1f3a55.DCYzpOvqfTcnUzmXxcOBGkbbUvL4Kypp", notMine},
		{"a refresh token that begins as a JWT does", "eyJ7f4d5e-1c0a-4d0e-a3f4-0f1b4a1f3a55.DCYzpOvqfTcnUzmXxcOBGkbbUvL4Kypp", malformed},
		{"a machine's", f.token(goodHeader, robot), ok},
	}...)
	for _, machine := range []bool{false, true} {
		turn := &resolver.InTurn{Next: f.jwt, Machine: machine}
		s, err := resolve(turn, f.token(goodHeader, robot))
		if machine && (err != nil || s.UserID != "" || s.Roles != "" || !s.Machine) || !machine && reasonOf(err) != resolver.MachineToken {
			t.Errorf("a machine's token, where machines may pass: %v: Resolve = %+v, %v", machine, s, err)
		}
	}
}
