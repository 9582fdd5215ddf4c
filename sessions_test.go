package main

import (
	"net/http"
	"strings"
	"testing"

	"authgear-forward-auth/internal/authgeartest"
	"authgear-forward-auth/internal/proxytest"
)

// leave signs a caller out, as the application does; the fields are whole lines.
func leave(t *testing.T, s *proxytest.Service, lines ...string) {
	t.Helper()
	text := "POST /forget HTTP/1.1\r\nHost: auth\r\nConnection: close\r\nContent-Length: 0\r\n" + strings.Join(lines, "\r\n") + "\r\n\r\n"
	if resp, _ := proxytest.Raw(t, s.Addr, text); resp.StatusCode != http.StatusNoContent {
		t.Errorf("/forget: status %d", resp.StatusCode)
	}
}

func expectStatus(t *testing.T, s *proxytest.Service, want int, lines ...string) {
	t.Helper()
	if resp := ask(t, s, lines...); resp.StatusCode != want {
		t.Errorf("%.40q: status %d, want %d", lines, resp.StatusCode, want)
	}
}

// A thief may have shown what was taken beside something else, or in another place.
func TestWhoLeftHasLeftInAnyCompany(t *testing.T) {
	for _, mode := range []string{"hybrid", "resolver"} {
		t.Run(mode, func(t *testing.T) {
			s, authgear := start(t, "AUTHGEAR_MAX_STALENESS=1h", "AUTHGEAR_MODE="+mode)
			ada := authgear.AddUser(authgeartest.User{ID: "ada"})
			token, session := authgear.OpaqueToken(ada), authgear.SessionCookie(ada)
			bearer, cookie := "Authorization: Bearer "+token, "Cookie: session="+session
			shown := [][]string{{bearer, cookie}, {"Authorization: Bearer bad", cookie}}
			for _, lines := range shown {
				expectStatus(t, s, 200, lines...)
			}
			authgear.Revoke(token)
			authgear.Revoke(session)
			leave(t, s, bearer, cookie)
			for _, lines := range append(shown, []string{cookie}, []string{bearer}) {
				expectStatus(t, s, 401, lines...)
			}
		})
	}
}

func TestAJWTLeavesAllItsPlaces(t *testing.T) {
	s, authgear := start(t, "AUTHGEAR_MODE=jwt")
	token := authgear.JWT(authgear.AddUser(authgeartest.User{ID: "ada"}))
	expectStatus(t, s, 200, "Authorization: Bearer "+token)
	expectStatus(t, s, 200, "Cookie: app_access_token="+token)
	leave(t, s, "Authorization: Bearer "+token)
	expectStatus(t, s, 401, "Authorization: Bearer "+token)
	expectStatus(t, s, 401, "Cookie: app_access_token="+token)
}

// A token tells of roles what was true when it was issued. A 403 is by what is true now.
func TestWhatATokenLacksMayHaveComeSince(t *testing.T) {
	s, authgear := start(t)
	for _, policy := range []string{"role=admin", "verified"} {
		ada := authgear.AddUser(authgeartest.User{ID: "ada"})
		issued := authgear.JWT(ada)
		authgear.Edit(ada, func(u *authgeartest.User) { u.Roles, u.Verified = []string{"admin"}, true })
		bob := authgear.JWT(authgear.AddUser(authgeartest.User{ID: "bob"}))
		for token, want := range map[string]int{issued: 200, bob: 403} {
			resp, _ := proxytest.Raw(t, s.Addr, "GET /nginx?"+policy+" HTTP/1.1\r\nHost: auth\r\nConnection: close\r\nAuthorization: Bearer "+token+"\r\n\r\n")
			if resp.StatusCode != want {
				t.Errorf("%s: status %d, want %d", policy, resp.StatusCode, want)
			}
		}
	}
}

// Authgear tells neither of a client nor of scopes: while it is away, the token's word is enough.
func TestWhatOnlyTheTokenTellsNeedsNoAuthgear(t *testing.T) {
	for policy, want := range map[string]int{"scope=other": 403, "client_id=other": 403, "role=admin": 503} {
		s, authgear := start(t)
		token := authgear.JWT(authgear.AddUser(authgeartest.User{ID: "ada"}))
		authgear.Fail("resolver", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(503) })
		resp, _ := proxytest.Raw(t, s.Addr, "GET /nginx?"+policy+" HTTP/1.1\r\nHost: auth\r\nConnection: close\r\nAuthorization: Bearer "+token+"\r\n\r\n")
		if resp.StatusCode != want {
			t.Errorf("%s: status %d, want %d", policy, resp.StatusCode, want)
		}
	}
}
