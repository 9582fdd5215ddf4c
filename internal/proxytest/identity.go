package proxytest

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"authgear-forward-auth/internal/authgeartest"
)

// fields are those that tell the application who is asking.
var fields = []string{
	"X-Authgear-Session-Valid", "X-Authgear-User-Id", "X-Authgear-User-Anonymous", "X-Authgear-User-Verified", "X-Authgear-User-Roles",
	"X-Authgear-Session-Amr", "X-Authgear-Session-Authenticated-At", "X-Authgear-User-Can-Reauthenticate", "X-Authgear-Client-Id", "X-Authgear-Scope",
}

// spellings are the names that an application may take for that field: some
// read a hyphen, an underscore and a dot alike.
func spellings(name string) []string {
	first := strings.Index(name, "-")
	last := strings.LastIndex(name, "-")
	return []string{
		name, strings.ToLower(name), strings.ToUpper(name),
		strings.ReplaceAll(name, "-", "_"), strings.ReplaceAll(strings.ToUpper(name), "-", "_"), strings.ReplaceAll(name, "-", "."),
		name[:first] + "_" + name[first+1:], name[:last] + "_" + name[last+1:], name[:last] + "." + name[last+1:],
	}
}

// identity returns what an application may take for an identity: each field with
// a value whose name is ours in any spelling.
func identity(h http.Header) http.Header {
	return alike(h, "X-Authgear-")
}

// alike returns each field with a value whose name begins so in any spelling.
func alike(h http.Header, prefix string) http.Header {
	hyphens := strings.NewReplacer("_", "-", ".", "-", "~", "-", "+", "-")
	found := http.Header{}
	for name, values := range h {
		name = http.CanonicalHeaderKey(hyphens.Replace(strings.TrimSpace(name)))
		if strings.HasPrefix(name, prefix) && strings.Join(values, "") != "" {
			found[name] = append(found[name], values...)
		}
	}
	return found
}

// expectIdentity compares what the application was handed with what it should
// be, name and value in turn. Every other field is empty or not there.
func expectIdentity(t testing.TB, s Seen, want ...string) {
	t.Helper()
	got := identity(s.Header)
	for i := 0; i < len(want); i += 2 {
		if values := got[want[i]]; len(values) != 1 || values[0] != want[i+1] {
			t.Errorf("%s: %q, want %q once", want[i], values, want[i+1])
		}
		delete(got, want[i])
	}
	for name, values := range got {
		t.Errorf("%s: %q, want none", name, values)
	}
}

// A person asks, and the application must be handed that identity.
type person struct {
	name, path            string
	credentials, identity []string // name and value in turn
}

func (st *Stand) people() []person {
	const at = "1795186069"
	ada := st.Authgear.AddUser(authgeartest.User{ID: "ada", Roles: []string{"admin", "editor"}, Verified: true, CanReauthenticate: true})
	var jti string
	jwt := st.Authgear.JWT(ada, func(_, c map[string]any) {
		c["auth_time"], c["scope"], c["amr"] = 1795186069, "openid", []string{"pwd", "mfa"}
		jti = c["jti"].(string)
	})
	st.Authgear.GrantAt(authgeartest.JTI, jti, ada, time.Unix(1795186069, 0))
	bob := st.Authgear.AddUser(authgeartest.User{ID: "bob"})
	opaque := st.Authgear.OpaqueToken(bob)
	st.Authgear.GrantAt(authgeartest.Bearer, opaque, bob, time.Unix(1795186069, 0))
	user := func(id, fact string, more ...string) []string {
		return append([]string{"X-Authgear-Session-Valid", "true", "X-Authgear-User-Id", id, "X-Authgear-User-Anonymous", "false",
			"X-Authgear-User-Verified", fact, "X-Authgear-User-Can-Reauthenticate", fact, "X-Authgear-Session-Authenticated-At", at}, more...)
	}
	return []person{
		{"a user of whom all is known", "/", Bearer(jwt), user("ada", "true", "X-Authgear-User-Roles", "admin,editor",
			"X-Authgear-Session-Amr", "pwd mfa", "X-Authgear-Client-Id", "spa-jwt", "X-Authgear-Scope", "openid")},
		{"a user without roles", "/", Bearer(opaque), user("bob", "false")},
		{"a bad credential where visitors pass", "/public/", Bearer("bad"), []string{"X-Authgear-Session-Valid", "false"}},
		{"a visitor", "/public/", nil, nil},
	}
}

// odd are further names, to applications that read all that is no letter as a hyphen.
func odd(name string) []string {
	return []string{strings.Replace(name, "-", "~", 1), strings.ReplaceAll(name, "-", "+")}
}

// forgeries are the fields by which a client says that it is somebody else.
func forgeries() (forged []string) {
	for _, name := range append([]string{"X-Authgear-Session-Acr"}, fields...) {
		for _, spelling := range append(spellings(name), odd(name)...) {
			forged = append(forged, spelling, "mallory")
		}
	}
	return forged
}

func forgedFields(t *testing.T, st *Stand) {
	for _, p := range st.people() {
		t.Run(p.name, func(t *testing.T) {
			resp, body := st.Raw(t, p.path, append(forgeries(), p.credentials...)...)
			if resp.StatusCode != 200 {
				t.Fatalf("status %d, want 200", resp.StatusCode)
			}
			expectIdentity(t, readSeen(t, []byte(body)), p.identity...)
		})
	}
}

// What is no field by the book may be one to somebody. A proxy may refuse the
// request, or leave the field out.
func malformedFields(t *testing.T, st *Stand) {
	for _, p := range st.people() {
		for _, forged := range [][]string{
			{"X-Authgear-User-Id ", "mallory"}, {"X-Authgear-User-Id\t", "mallory"}, {"X-Authgear-User-Id\x00", "mallory"},
			{" X-Authgear-User-Id", "mallory"}, {"X-A", "b\r\n X-Authgear-User-Id: mallory"}, {"X-A", "b\rX-Authgear-User-Id: mallory"},
			{"X-A", "b\nX-Authgear-User-Id: mallory"}, {"X-Authgear-User-Id", "\r\n mallory"}, {"X-Authgear-User-Id\r\n", "mallory"},
		} {
			resp, body := st.Raw(t, p.path, append(forged, p.credentials...)...)
			switch resp.StatusCode {
			case 200:
				expectIdentity(t, readSeen(t, []byte(body)), p.identity...)
			case 400:
			default:
				t.Errorf("%q: status %d, want 200 or 400", forged, resp.StatusCode)
			}
		}
	}
}

// A client may name fields that end at the next hop. RFC 9110 §7.6.1.
func connectionTokens(t *testing.T, st *Stand) {
	for _, p := range st.people() {
		for _, value := range []string{"X-Authgear-User-Roles", "close, X-Authgear-User-Id", "keep-alive, " + strings.Join(fields, ", ")} {
			_, s := st.Expect(t, 200, "GET", p.path, append([]string{"Connection", value, "X-Authgear-User-Roles", "mallory"}, p.credentials...)...)
			expectIdentity(t, s, p.identity...)
		}
	}
}

func unknownField(t *testing.T, st *Stand) {
	_, s := st.Expect(t, 200, "GET", "/", append([]string{"X-Authgear-Foo", "x"}, st.bob()...)...)
	if passes := identity(s.Header).Get("X-Authgear-Foo") != ""; passes != st.PassesUnknown {
		t.Errorf("it reaches the application: %v, want %v", passes, st.PassesUnknown)
	}
}

// A chunked body may be followed by what looks like fields. RFC 9110 §6.5.
func forgedTrailers(t *testing.T, st *Stand) {
	addr, passes := strings.TrimPrefix(st.URL, "http://"), false
	for _, announced := range []string{"", "Trailer: X-Authgear-User-Id\r\n"} {
		text := "POST /public/ HTTP/1.1\r\nHost: " + addr + "\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n" + announced +
			"\r\n4\r\nbody\r\n0\r\nX-Authgear-User-Id: mallory\r\n\r\n"
		resp, body := Raw(t, addr, text)
		if resp.StatusCode != 200 {
			t.Errorf("%q: status %d, want 200", announced, resp.StatusCode)
			continue
		}
		s := readSeen(t, []byte(body))
		expectIdentity(t, s)
		passes = passes || len(identity(s.Trailer)) > 0
	}
	if passes != st.PassesTrailers {
		t.Errorf("a trailer reaches the application: %v, want %v", passes, st.PassesTrailers)
	}
}
