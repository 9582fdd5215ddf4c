package authgeartest

import (
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"
)

// ask sends header lines to the resolver and returns Session-Valid, or "absent".
func ask(t *testing.T, s *Server, field, value string) string {
	t.Helper()
	req, _ := http.NewRequest("GET", s.URL()+"/_resolver/resolve", nil)
	if field != "" {
		req.Header.Set(field, value)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if v := resp.Header.Get("X-Authgear-Session-Valid"); v != "" {
		return v
	}
	if resp.StatusCode != 200 {
		return resp.Status
	}
	return "absent"
}

func expect(t *testing.T, what, got, want string) {
	t.Helper()
	if got != want {
		t.Errorf("%s: got %q, want %q", what, got, want)
	}
}

func bearer(t *testing.T, s *Server, token string) string {
	t.Helper()
	return ask(t, s, "Authorization", "Bearer "+token)
}

func TestMintedCredentials(t *testing.T) {
	s := Start(t, Options{CookiePrefix: "p_"})
	u := s.AddUser(User{Roles: []string{"a"}})
	jwt := s.JWT(u)
	expect(t, "none", ask(t, s, "", ""), "absent")
	expect(t, "jwt", bearer(t, s, jwt), "true")
	expect(t, "opaque", bearer(t, s, s.OpaqueToken(u)), "true")
	expect(t, "m2m", bearer(t, s, s.M2M("m", "https://api")), "absent")
	expect(t, "id token", bearer(t, s, s.IDToken(u)), "absent")
	expect(t, "session", ask(t, s, "Cookie", "p_session="+s.SessionCookie(u)), "true")
	expect(t, "unprefixed", ask(t, s, "Cookie", "session="+s.SessionCookie(u)), "absent")
	expect(t, "app_session", ask(t, s, "Cookie", "p_app_session="+s.AppSession(u)), "true")
	expect(t, "app_access_token", ask(t, s, "Cookie", "p_app_access_token="+jwt), "true")
	for _, claim := range []string{"jti", "aud"} {
		edited := s.JWT(u, func(_, claims map[string]any) { claims[claim] = "other" })
		expect(t, "other "+claim, bearer(t, s, edited), "absent")
	}
	noKid := s.JWT(u, func(header, _ map[string]any) { delete(header, "kid") })
	expect(t, "no kid", bearer(t, s, noKid), "absent")
	s.Revoke(jwt)
	expect(t, "revoked", bearer(t, s, jwt), "absent")
	expect(t, "others live", bearer(t, s, s.JWT(u)), "true")
}

func TestDisable(t *testing.T) {
	s := Start(t, Options{})
	u := s.AddUser(User{})
	token, cookie := s.OpaqueToken(u), s.SessionCookie(u)
	s.Edit(u, func(u *User) { u.Disabled = true })
	expect(t, "by status, bearer", bearer(t, s, token), "false")
	s.Edit(u, func(u *User) { u.Disabled = false })
	expect(t, "again", bearer(t, s, token), "true")
	s.Disable(u)
	expect(t, "disabled, bearer", bearer(t, s, token), "absent")
	expect(t, "disabled, cookie", ask(t, s, "Cookie", "session="+cookie), "false")
}

func TestKeys(t *testing.T) {
	s := Start(t, Options{})
	u := s.AddUser(User{})
	old := s.JWT(u)
	s.RotateKey()
	expect(t, "old key published", bearer(t, s, old), "true")
	expect(t, "new key", bearer(t, s, s.JWT(u)), "true")
	s.DropOldKeys()
	expect(t, "old key dropped", bearer(t, s, old), "absent")
	lab, _ := RecordedKeys()
	s.SetKeys(lab)
	resp, err := http.Get(s.URL() + jwksPath)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, _ := io.ReadAll(resp.Body)
	expect(t, "recorded keys", string(body), string(lab))
	if s.KeyFetches() != 1 {
		t.Errorf("key fetches: %d", s.KeyFetches())
	}
}

func TestFailAndCount(t *testing.T) {
	s := Start(t, Options{})
	s.Fail("resolver", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusBadGateway) })
	expect(t, "failing", ask(t, s, "X-Probe", "1"), "502 Bad Gateway")
	s.Fail("resolver", nil)
	expect(t, "healed", ask(t, s, "X-Probe", "2"), "absent")
	expect(t, "last", s.LastResolve().Header.Get("X-Probe"), "2")
	if s.ResolverCalls() != 2 {
		t.Errorf("resolver calls: %d", s.ResolverCalls())
	}
}

func TestConcurrentUse(t *testing.T) {
	s := Start(t, Options{})
	u := s.AddUser(User{Roles: []string{"a"}})
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			token := s.JWT(u)
			bearer(t, s, token)
			s.Edit(u, func(u *User) { u.Roles = append(u.Roles, "b") })
			s.Revoke(token)
			_ = s.LastResolve()
		})
	}
	s.RotateKey()
	s.DropOldKeys()
	s.RevokeUser(u)
	wg.Wait()
}

func TestResolverFields(t *testing.T) {
	s := Start(t, Options{})
	resp, err := http.Get(s.URL() + "/resolve")
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	h := resp.Header
	expect(t, "Content-Length", h.Get("Content-Length"), "0")
	expect(t, "nosniff", h.Get("X-Content-Type-Options"), "nosniff")
	expect(t, "Content-Type", strings.Join(h.Values("Content-Type"), ","), "")
	if h.Get("X-Robots-Tag") == "" || h.Get("Permissions-Policy") == "" {
		t.Error("a field is missing")
	}
}
