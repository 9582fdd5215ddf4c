package resolver

import (
	"context"
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"authgear-forward-auth/internal/authgeartest"
)

// knownKeys are keys that are never fetched.
func knownKeys(set *keySet) *Keys {
	k := &Keys{}
	k.set.Store(set)
	k.last.Store(&attempt{at: time.Now().Add(time.Hour)})
	return k
}

// checkJWT tests that j gives a session only for a token that golang-jwt
// accepts too, and to the same subject.
func checkJWT(t *testing.T, j *JWT, text string) *Session {
	t.Helper()
	s, err := j.Resolve(context.Background(), Credentials{List: []Credential{{Bearer, text}}})
	if err != nil {
		if s != nil {
			t.Errorf("a session besides %v", err)
		}
		return nil
	}
	subject, err := golangJWT(j, text)
	if err != nil {
		t.Fatalf("%q: Resolve = %+v, golang-jwt says %v", text, s, err)
	}
	machine := s.Machine && s.UserID == "" && strings.HasPrefix(subject, machinePrefix)
	if !machine && s.UserID != subject {
		t.Fatalf("%q: Resolve = %+v, golang-jwt says it is %q", text, s, subject)
	}
	for name, value := range s.asFields() {
		if !isVisible(strings.ReplaceAll(value, " ", "")) {
			t.Errorf("%q: the field %s would be %q", text, name, value)
		}
	}
	return s
}

// golangJWT returns the subject of a token as golang-jwt reads it. It takes null
// for a wrong type where we take it for an absent claim, so nulls are left out.
func golangJWT(j *JWT, text string) (subject string, err error) {
	parser := jwt.NewParser(jwt.WithValidMethods([]string{"RS256"}), jwt.WithJSONNumber(), jwt.WithoutClaimsValidation())
	token, err := parser.Parse(text, func(token *jwt.Token) (any, error) {
		kid, _ := token.Header["kid"].(string)
		if key := j.Keys.lookup(kid); key != nil {
			return key.PublicKey, nil
		}
		return nil, errors.New("no such key")
	})
	if err != nil {
		return "", err
	}
	claims := token.Claims.(jwt.MapClaims)
	maps.DeleteFunc(claims, func(_ string, v any) bool { return v == nil })
	if list, ok := claims["aud"].([]any); ok {
		claims["aud"] = slices.DeleteFunc(list, func(v any) bool { return v == nil })
	}
	validator := jwt.NewValidator(jwt.WithIssuer(j.Issuer), jwt.WithAudience(j.Audiences...), jwt.WithLeeway(j.Skew), jwt.WithExpirationRequired(), jwt.WithIssuedAt())
	if err := validator.Validate(claims); err != nil {
		return "", err
	}
	return claims.GetSubject()
}

// realTokens returns a verifier with the keys of a real Authgear, its tokens,
// and how many of them pass.
func realTokens(t testing.TB) (j *JWT, tokens []string, passed int) {
	t.Helper()
	lab, _ := authgeartest.RecordedKeys()
	set, err := parseKeys(lab)
	if err != nil {
		t.Fatal(err)
	}
	const century = 100 * 365 * 24 * time.Hour // the tokens are old
	const issuer = "http://localhost:23000"
	j = &JWT{Issuer: issuer, Audiences: []string{issuer}, Skew: century, Keys: knownKeys(set)}
	for _, r := range authgeartest.Recordings() {
		for _, one := range credentialsOf(r).List {
			if !one.IsJWT() || slices.Contains(tokens, one.Value) {
				continue
			}
			tokens = append(tokens, one.Value)
			if _, err := j.Resolve(context.Background(), Credentials{List: []Credential{one}}); err == nil {
				passed++
			}
		}
	}
	if passed < 20 {
		t.Fatalf("%d of %d real tokens pass, want 20 or more", passed, len(tokens))
	}
	return j, tokens, passed
}

// otherTexts are texts that a lenient reader takes for the same token.
func otherTexts(text string) []string {
	const letters = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_+/"
	list := []string{text + "=", text + "==", text + "\n", text + " ", text + ".", " " + text, "\n" + text, text + "." + text}
	for i := range text {
		if i+1 < len(text) && text[i+1] != '.' {
			continue
		}
		for _, stray := range letters { // the last letter of a part has up to four bits to spare
			list = append(list, text[:i]+string(stray)+text[i+1:])
		}
		list = append(list, text[:i+1]+"="+text[i+1:], text[:i+1]+"\r\n"+text[i+1:], text[:i]+"\n"+text[i:])
	}
	return append(list, strings.NewReplacer("-", "+", "_", "/").Replace(text))
}

func TestARealTokenHasOneText(t *testing.T) {
	j, tokens, passed := realTokens(t)
	tried := 0
	for _, token := range tokens {
		if checkJWT(t, j, token) == nil {
			continue
		}
		for _, other := range otherTexts(token) {
			if other == token {
				continue
			}
			tried++
			if checkJWT(t, j, other) != nil {
				t.Errorf("%q passes, and so does %q", token, other)
			}
		}
	}
	t.Logf("%d of %d real tokens pass, none of %d other texts of them", passed, len(tokens), tried)
}

// Whatever bytes come, around real tokens of a real Authgear; and none of two
// texts that differ in one byte.
func FuzzJWT(f *testing.F) {
	j, tokens, _ := realTokens(f)
	for _, token := range tokens {
		f.Add(token, uint16(len(token)-1), byte('A'))
		f.Add(token, uint16(strings.IndexByte(token, '.')), byte('\n'))
	}
	f.Fuzz(func(t *testing.T, text string, at uint16, with byte) {
		if checkJWT(t, j, text) == nil {
			return
		}
		i := int(at) % len(text)
		if other := text[:i] + string([]byte{with}) + text[i+1:]; other != text && checkJWT(t, j, other) != nil {
			t.Errorf("%q passes, and so does %q", text, other)
		}
	})
}

// Whatever the issuer signs.
func FuzzSignedJWT(f *testing.F) {
	private, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		f.Fatal(err)
	}
	key, err := newPublicKey(&private.PublicKey)
	if err != nil {
		f.Fatal(err)
	}
	const issuer = "https://auth.example.com"
	j := &JWT{Issuer: issuer, Audiences: []string{issuer, "https://api.example.com"}, Skew: 30 * time.Second,
		Keys: knownKeys(&keySet{byID: map[string]*publicKey{"k": key}})}
	sign := func(header, claims string) string {
		input := base64.RawURLEncoding.EncodeToString([]byte(header)) + "." + base64.RawURLEncoding.EncodeToString([]byte(claims))
		sum := sha256.Sum256([]byte(input))
		signature, err := rsa.SignPKCS1v15(nil, private, crypto.SHA256, sum[:])
		if err != nil {
			panic(err)
		}
		return input + "." + base64.RawURLEncoding.EncodeToString(signature)
	}

	const header = `{"alg":"RS256","kid":"k","typ":"at+jwt"}`
	user := func(edits ...string) string {
		const claims = `{"iss":"https://auth.example.com","aud":["https://auth.example.com"],"sub":"ada","client_id":"spa","jti":"1","iat":1700000000,"exp":4000000000,` +
			`"scope":"openid","amr":["pwd"],"https://authgear.com/claims/user/is_anonymous":false,"https://authgear.com/claims/user/roles":["a","b"]}`
		return strings.NewReplacer(edits...).Replace(claims)
	}
	if _, err := j.Resolve(context.Background(), Credentials{List: []Credential{{Bearer, sign(header, user())}}}); err != nil {
		f.Fatalf("the plain token: %v", err)
	}
	for _, claims := range []string{
		user(), user(`"ada"`, `"client_id_robot"`), user(`["https://auth.example.com"]`, `"https://api.example.com"`),
		user(`4000000000`, fmt.Sprint(time.Now().Unix()-10)), user(`1700000000`, fmt.Sprint(time.Now().Unix()+10)), user(`"jti"`, `"nbf":1700000000,"jti"`),
		user(`4000000000`, `1700000000`), user(`4000000000`, `4e9`), user(`4000000000`, `-1`), user(`"exp"`, `"EXP"`), user(`"sub"`, `"sub":"bob","sub"`),
		user(`"sub"`, `"s\u0075b"`), user(`"ada"`, `"a\u0000da"`), user(`"ada"`, "\"\xff\""), user(`["a","b"]`, `["a,b"]`), user(`["a","b"]`, `null`), user(`"jti"`, `"nbf":null,"jti"`),
		user(`["https://auth.example.com"]`, `[null,"https://auth.example.com"]`), user(`"jti"`, `"x":1e999,"jti"`), `{}`, `[]`, ``,
	} {
		f.Add(header, claims)
	}
	for _, other := range []string{
		`{"alg":"none","kid":"k","typ":"at+jwt"}`, `{"alg":"HS256","kid":"k","typ":"at+jwt"}`, `{"alg":"RS256","alg":"none","kid":"k","typ":"at+jwt"}`,
		`{"alg":"RS256","kid":"k","typ":"JWT"}`, `{"alg":"RS256","kid":"k","typ":"at+jwt","crit":["x"]}`, `{"alg":"RS256","kid":"K","typ":"AT+JWT"}`, `null`,
	} {
		f.Add(other, user())
	}
	f.Fuzz(func(t *testing.T, header, claims string) {
		checkJWT(t, j, sign(header, claims))
	})
}
