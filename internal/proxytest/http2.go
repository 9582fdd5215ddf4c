package proxytest

import (
	"crypto/tls"
	"encoding/json"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"
)

// A caller speaks HTTP/2 alone, without TLS or with it, whosever certificate it is.
type caller struct {
	url    string
	client *http.Client
}

func newCaller(t *testing.T, url string) caller {
	transport := &http.Transport{Protocols: new(http.Protocols), TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}
	transport.Protocols.SetUnencryptedHTTP2(true)
	transport.Protocols.SetHTTP2(true)
	t.Cleanup(transport.CloseIdleConnections)
	return caller{url, &http.Client{Transport: transport}}
}

// post sends a body whose length is not told. The answer's trailer has been read.
func (c caller) post(t *testing.T, path string, fields ...string) (*http.Response, Seen) {
	t.Helper()
	resp, s, err := c.try(t, path, nil, fields)
	if err != nil {
		t.Fatal(err)
	}
	return resp, s
}

func (c caller) try(t *testing.T, path string, trailer http.Header, fields []string) (*http.Response, Seen, error) {
	t.Helper()
	req, err := http.NewRequest("POST", c.url+path, io.MultiReader(strings.NewReader("body")))
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i < len(fields); i += 2 {
		req.Header[fields[i]] = append(req.Header[fields[i]], fields[i+1])
	}
	req.Trailer = trailer
	resp, err := c.client.Do(req)
	if err != nil {
		return nil, Seen{}, err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	var s Seen
	if err := json.Unmarshal(body, &s); resp.StatusCode == 200 && err != nil {
		t.Fatalf("the application's answer: %v", err)
	}
	if resp.ProtoMajor != 2 {
		t.Errorf("%s is not HTTP/2", resp.Proto)
	}
	return resp, s, nil
}

// HTTP2 plays the stories in which HTTP/2 differs, with a proxy that takes it at
// that URL: names of fields are not what they are in HTTP/1, a Connection field is
// none, and cookies come in pieces.
func HTTP2(t *testing.T, st *Stand, url string) {
	c := newCaller(t, url)
	if resp, _ := c.post(t, "/"); resp.StatusCode != 401 || len(resp.Header.Values("WWW-Authenticate")) != 1 {
		t.Errorf("no credential: status %d, WWW-Authenticate: %q", resp.StatusCode, resp.Header.Values("WWW-Authenticate"))
	}
	if resp, _ := c.post(t, "/admin/", st.bob()...); resp.StatusCode != 403 {
		t.Errorf("a missing role: status %d, want 403", resp.StatusCode)
	}
	for _, p := range st.people() {
		resp, s := c.post(t, p.path, append(st.forged(), p.credentials...)...)
		if resp.StatusCode != 200 {
			t.Errorf("%s: status %d, want 200", p.name, resp.StatusCode)
			continue
		}
		expectIdentity(t, s, p.identity...)
	}
	// A proxy may refuse trailers: nginx ends the connection.
	_, s, err := c.try(t, "/public/", http.Header{"X-Authgear-User-Id": {"mallory"}}, nil)
	if err == nil {
		expectIdentity(t, s)
		if len(identity(s.Trailer)) > 0 && !st.PassesTrailers {
			t.Errorf("trailers: %v, want none", s.Trailer)
		}
	}
	Found(t, overHTTP2, "ok")
}

// GRPC makes calls as gRPC does, with a proxy that takes HTTP/2 at that URL and
// speaks it to the application. A gRPC client understands 401 as UNAUTHENTICATED,
// 403 as PERMISSION_DENIED and 503 as UNAVAILABLE.
func GRPC(t *testing.T, st *Stand, url string) {
	c := newCaller(t, url)
	call := func(status int, path string, more ...string) (*http.Response, Seen) {
		t.Helper()
		resp, s := c.post(t, path, append(more, "Content-Type", "application/grpc", "Te", "trailers")...)
		if resp.StatusCode != status {
			t.Fatalf("%s: status %d, want %d", path, resp.StatusCode, status)
		}
		return resp, s
	}
	for path, status := range map[string]int{"/shop.Orders/List": 401, "/admin/shop.Orders/List": 403} {
		var who []string
		if status == 403 {
			who = st.bob()
		}
		resp, _ := call(status, path, who...)
		if kind := resp.Header.Get("Content-Type"); kind == "application/grpc" || resp.Trailer.Get("Grpc-Status") != "" || resp.Header.Get("Grpc-Status") != "" {
			t.Errorf("%s: a denial looks like an answer: %v, %v", path, resp.Header, resp.Trailer)
		}
	}
	for _, p := range st.people() {
		forged := st.forged()
		for _, name := range append([]string{"X-Forwarded-Host", "X-Forwarded-For", "X-Forwarded-Proto"}, PathNames...) {
			forged = append(forged, name, "told.by.mallory")
		}
		resp, s := call(200, p.path, append(forged, p.credentials...)...)
		expectIdentity(t, s, p.identity...)
		if got := resp.Trailer.Get("Grpc-Status"); got != "0" || resp.Header.Get("Content-Type") != "application/grpc" {
			t.Errorf("%s: grpc-status %q, %v", p.name, got, resp.Header)
		}
		if s.Header.Get("Te") != "trailers" {
			t.Errorf("%s: the application is asked with TE: %q, which gRPC wants to be trailers", p.name, s.Header.Get("Te"))
		}
		for name, values := range s.Header {
			if slices.Contains(values, "told.by.mallory") {
				t.Errorf("%s: the client tells the application %s", p.name, name)
			}
		}
	}
	Found(t, grpc, "ok")
}

// forged are forgeries, and an X-Authgear field of which the service knows nothing
// where the proxy removes those.
func (st *Stand) forged() []string {
	if st.PassesUnknown {
		return forgeries()
	}
	return append(forgeries(), "X-Authgear-Foo", "mallory")
}
