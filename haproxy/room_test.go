package haproxy_test

import (
	"strings"
	"testing"

	"authgear-forward-auth/internal/authgeartest"
	"authgear-forward-auth/internal/proxytest"
)

// A request may fill HAProxy's buffer so that some of the fields that tell who is asking
// have no room. Then it does not pass, or a client could choose which are missing.
func TestTheIdentityIsWhole(t *testing.T) {
	st := newStand(t, proxytest.FreeAddr(t), edits{})
	guest := st.User(authgeartest.User{ID: "guest", Anonymous: true})
	passed, refused := 0, 0
	for total := 47000; total < 48100; total += 20 {
		text := "GET /x HTTP/1.1\r\nHost: " + strings.Repeat("h", 900) + "\r\nConnection: close\r\n" + guest[0] + ": " + guest[1] + "\r\n"
		for len(text) < total-20 {
			text += "A: " + strings.Repeat("p", min(8000, total-len(text)-5)) + "\r\n"
		}
		resp, body := proxytest.Raw(t, strings.TrimPrefix(st.URL, "http://"), text+"\r\n")
		switch resp.StatusCode {
		case 200:
			passed++
			for _, field := range []string{`"X-Authgear-User-Id":["guest"]`, `"X-Authgear-Session-Valid":["true"]`, `"X-Authgear-User-Anonymous":["true"]`} {
				if !strings.Contains(body, field) {
					t.Fatalf("%d bytes: it passes without %s", total, field)
				}
			}
		case 431:
			refused++
		}
	}
	if passed == 0 || refused == 0 {
		t.Errorf("%d passed, %d had no room: want some of each", passed, refused)
	}
}
