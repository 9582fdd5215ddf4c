package resolver

import (
	"bufio"
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"io"
	"math/big"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"

	"github.com/valyala/fasthttp"

	"authgear-forward-auth/internal/authgeartest"
)

// Whatever the resolver, or something in its place, answers: only an answer that net/http
// reads as Session-Valid true, once, is a session; and nothing of it that could not stand
// in a field is handed on.
func FuzzResolverAnswer(f *testing.F) {
	const good = "HTTP/1.1 200 OK\r\nContent-Length: 0\r\nX-Authgear-Session-Valid: true\r\nX-Authgear-User-Id: ada\r\nX-Authgear-User-Anonymous: false\r\n" +
		"X-Authgear-User-Verified: true\r\nX-Authgear-User-Can-Reauthenticate: true\r\nX-Authgear-Session-Amr: \r\nX-Authgear-User-Roles: a,b\r\nX-Authgear-Session-Authenticated-At: 1700000000\r\n\r\n"
	const dead = "HTTP/1.1 200 OK\r\nContent-Length: 0\r\nX-Authgear-Session-Valid: false\r\nSet-Cookie: session=; Path=/; Expires=Thu, 01 Jan 1970 00:00:00 GMT; HttpOnly; SameSite=Lax\r\n\r\n"
	for _, edit := range [][2]string{
		{"", ""}, {": true", ": TRUE"}, {"ada", "a\x80da"}, {"ada", "a\x00da"}, {"ada", "ada\r\n evil"}, {"ada", "ada\nX-Authgear-User-Roles: admin"}, {"X-Authgear-User-Id", "x-authgear-user-id"},
		{"X-Authgear-User-Id: ada", "X-Authgear-User-Id: ada\r\nX-Authgear-User-Id: bob"}, {"a,b", "a, b"}, {"1700000000", "-1"}, {"1700000000", "99999999999999999999"}, {"Content-Length: 0", "Content-Length: 4"},
		{"Content-Length: 0", "Transfer-Encoding: chunked"}, {"200 OK", "204 No Content"}, {"200 OK", "302 Found"}, {"HTTP/1.1 200 OK", "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK"}, {"\r\n", "\n"},
		{"X-Authgear-User-Id:", "X-Authgear-User-Id :"}, {"X-Authgear-User-Id", "X_Authgear_User_Id"}, {"X-Authgear-Session-Valid: true", "X-Authgear-Session-Valid: false\r\nX-Authgear-Session-Valid: true"},
	} {
		f.Add([]byte(strings.ReplaceAll(good, edit[0], edit[1])))
	}
	f.Add([]byte(dead))
	for _, bad := range []string{"\x01", "\xff", "\x00", "\x7f", "\t", "ä", "\r\n X-Evil: 1", "\nX-Evil: 1"} {
		f.Add([]byte(strings.ReplaceAll(dead, "session=;", "session=;"+bad)))
	}
	f.Add([]byte(strings.ReplaceAll(dead, "Path=/", "Path=/\r\n\tSet-Cookie: x=y")))
	for i, r := range authgeartest.Recordings() {
		if i%20 == 0 {
			var b strings.Builder
			b.WriteString("HTTP/1.1 200 OK\r\n")
			for _, h := range r.ResponseHeader {
				b.WriteString(h[0] + ": " + h[1] + "\r\n")
			}
			f.Add([]byte(b.String() + "\r\n" + r.Body))
		}
	}
	endpoint, _ := url.Parse("https://auth.example.com")
	remote := NewRemote(RemoteOptions{Endpoint: endpoint, URL: endpoint})
	f.Fuzz(func(t *testing.T, wire []byte) {
		var resp fasthttp.Response
		if resp.ReadLimitBody(bufio.NewReader(bytes.NewReader(wire)), maxResolverBody) != nil {
			return
		}
		s, err := remote.read(&resp)
		var inv *InvalidError
		if errors.As(err, &inv) && !isVisible(strings.ReplaceAll(inv.ClearCookie, " ", "")) {
			t.Errorf("Set-Cookie would be %q", inv.ClearCookie)
		}
		if err != nil {
			if s != nil {
				t.Errorf("a session besides %v", err)
			}
			return
		}
		for name, value := range s.asFields() {
			if !isVisible(strings.ReplaceAll(value, " ", "")) {
				t.Errorf("the field %s would be %q", name, value)
			}
		}
		checkAnswer(t, wire, s)
	})
}

// checkAnswer compares a session with the answer as net/http reads it.
func checkAnswer(t *testing.T, wire []byte, s *Session) {
	t.Helper()
	r := bufio.NewReader(bytes.NewReader(wire))
	answer, err := http.ReadResponse(r, nil)
	for err == nil && answer.StatusCode >= 100 && answer.StatusCode < 200 {
		answer, err = http.ReadResponse(r, nil)
	}
	if err != nil { // it is stricter, for instance about spaces before a colon
		if !bytes.Contains(wire, []byte("true")) || !bytes.Contains(wire, []byte(s.UserID)) {
			t.Fatalf("%q is %+v, which it does not tell", wire, s)
		}
		return
	}
	for name, values := range answer.Header { // it leaves a space before the colon in the name; RFC 9112 §5.1 has it removed
		if trimmed := strings.TrimRight(name, " \t"); trimmed != name {
			answer.Header[http.CanonicalHeaderKey(trimmed)] = append(answer.Header.Values(trimmed), values...)
		}
	}
	body, _ := io.ReadAll(answer.Body)
	// fasthttp takes the status 000, which nobody sends, for 200.
	if valid := answer.Header.Values("X-Authgear-Session-Valid"); answer.StatusCode != 200 && answer.StatusCode != 0 || len(valid) != 1 || valid[0] != "true" || len(body) > 0 {
		t.Fatalf("%q is %+v, but it is %d with Session-Valid %q and %d bytes", wire, s, answer.StatusCode, valid, len(body))
	}
	for name, have := range s.asFields() {
		if want := answer.Header.Values(name); len(want) > 1 || have != answer.Header.Get(name) && name != "X-Authgear-Session-Authenticated-At" {
			t.Errorf("%q: %s is %q, net/http reads %q", wire, name, have, want)
		}
	}
	if s.UserID == "" || s.Anonymous == Unknown || s.Verified == Unknown || s.CanReauthenticate == Unknown {
		t.Errorf("%q is half an answer: %+v", wire, s)
	}
}

// Whatever the issuer, or something in its place, publishes: a key is used only if an
// independent reading finds that it is an RSA key for RS256 signatures that is not weak.
func FuzzKeys(f *testing.F) {
	n := base64URL(odd(2048))
	for _, members := range [][]any{
		{}, {"use", "enc"}, {"use", nil}, {"alg", "RS512"}, {"alg", nil}, {"e", "AQ"}, {"e", "Ag"}, {"e", "AQAAAAAAAAAB"}, {"n", base64URL(odd(1024))}, {"kid", ""}, {"kty", "oct", "k", "AA"},
		{"key_ops", []string{"encrypt"}}, {"key_ops", []string{"verify"}}, {"d", "AQAB"}, {"kid", 1}, {"n", n + "="}, {"n", "AAAA" + n}, {"x5c", []string{""}}, {"N", n}, {"KTY", "oct"},
	} {
		f.Add([]byte(jwks(keyWith(members...))))
		f.Add([]byte(jwks(keyWith(members...), keyWith())))
	}
	lab, lab2 := authgeartest.RecordedKeys()
	f.Add(lab)
	f.Add(lab2)
	f.Add([]byte(`{"keys":[` + strings.Repeat(`[`, 2000)))
	f.Add([]byte(strings.Replace(jwks(keyWith()), `"use":"sig"`, `"use":"sig","use":"enc"`, 1)))
	f.Fuzz(func(t *testing.T, text []byte) {
		set, err := parseKeys(text)
		if err != nil {
			if set != nil {
				t.Errorf("keys besides %v", err)
			}
			return
		}
		var doc struct{ Keys []json.RawMessage }
		if err := json.Unmarshal(text, &doc); err != nil {
			t.Fatalf("%q: keys, but no JSON: %v", text, err)
		}
		for kid, key := range set.byID {
			found := slices.ContainsFunc(doc.Keys, func(raw json.RawMessage) bool { return mayVerifyRS256(raw, kid, key.N) })
			if !found || kid == "" || key.E < 3 || key.E%2 == 0 {
				t.Errorf("%q: the key %q is used, exponent %d", text, kid, key.E)
			}
		}
	})
}

// mayVerifyRS256 reads a JWK as RFC 7517 and 7518 §6.3 have it.
func mayVerifyRS256(raw json.RawMessage, kid string, n *big.Int) bool {
	var k map[string]any
	if json.Unmarshal(raw, &k) != nil || k["kty"] != "RSA" || k["kid"] != kid || k["d"] != nil {
		return false
	}
	if use := k["use"]; use != nil && use != "" && use != "sig" {
		return false
	}
	if alg := k["alg"]; alg != nil && alg != "" && alg != "RS256" {
		return false
	}
	if ops, found := k["key_ops"].([]any); found && !slices.Contains(ops, any("verify")) {
		return false
	}
	text, _ := k["n"].(string)
	b, err := base64.RawURLEncoding.DecodeString(strings.TrimRight(text, "="))
	m := new(big.Int).SetBytes(b)
	return err == nil && m.Cmp(n) == 0 && m.BitLen() >= 2048 && m.Bit(0) == 1
}
