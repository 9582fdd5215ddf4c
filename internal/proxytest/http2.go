package proxytest

import (
	"encoding/json"
	"io"
	"net/http"
	"strings"
	"testing"
)

// HTTP2 plays the stories in which HTTP/2 differs, with a proxy that takes it
// without TLS: names of fields are not what they are in HTTP/1, a Connection field
// is none, and cookies come in pieces.
func HTTP2(t *testing.T, st *Stand) {
	client := &http.Client{Transport: &http.Transport{Protocols: new(http.Protocols)}}
	client.Transport.(*http.Transport).Protocols.SetUnencryptedHTTP2(true)
	t.Cleanup(client.CloseIdleConnections)

	ask := func(t *testing.T, path string, trailer http.Header, fields ...string) (*http.Response, Seen) {
		t.Helper()
		req, err := http.NewRequest("POST", st.URL+path, io.MultiReader(strings.NewReader("body")))
		if err != nil {
			t.Fatal(err)
		}
		for i := 0; i < len(fields); i += 2 {
			req.Header[fields[i]] = append(req.Header[fields[i]], fields[i+1])
		}
		req.Trailer = trailer
		resp, err := client.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		var s Seen
		if err := json.NewDecoder(resp.Body).Decode(&s); resp.StatusCode == 200 && err != nil {
			t.Fatalf("the application's answer: %v", err)
		}
		if resp.ProtoMajor != 2 {
			t.Errorf("%s is not HTTP/2", resp.Proto)
		}
		return resp, s
	}

	if resp, _ := ask(t, "/", nil); resp.StatusCode != 401 || len(resp.Header.Values("WWW-Authenticate")) != 1 {
		t.Errorf("no credential: status %d, WWW-Authenticate: %q", resp.StatusCode, resp.Header.Values("WWW-Authenticate"))
	}
	if resp, _ := ask(t, "/admin/", nil, st.bob()...); resp.StatusCode != 403 {
		t.Errorf("a missing role: status %d, want 403", resp.StatusCode)
	}
	forged := []string{"X-Authgear-Foo", "mallory"}
	for _, name := range append([]string{"X-Authgear-Session-Acr"}, fields...) {
		for _, spelling := range spellings(name) {
			forged = append(forged, spelling, "mallory")
		}
	}
	for _, p := range st.people() {
		resp, s := ask(t, p.path, http.Header{"X-Authgear-User-Id": {"mallory"}}, append(forged, p.credentials...)...)
		if resp.StatusCode != 200 {
			t.Errorf("%s: status %d, want 200", p.name, resp.StatusCode)
			continue
		}
		expectIdentity(t, s, p.identity...)
		if len(identity(s.Trailer)) > 0 && !st.PassesTrailers {
			t.Errorf("%s: trailers: %v, want none", p.name, s.Trailer)
		}
	}
}
