package forwardauth_test

import (
	"bufio"
	"strings"
	"testing"

	"github.com/valyala/fasthttp"

	"authgear-forward-auth/caddy"
	"authgear-forward-auth/envoy"
	"authgear-forward-auth/haproxy"
	"authgear-forward-auth/internal/forwardauth"
	"authgear-forward-auth/nginx"
	"authgear-forward-auth/traefik"
)

// asks is how each proxy tells of a request, in its fields or its own line.
var asks = []struct {
	dialect forwardauth.Dialect
	lines   func(method, host, target string) string
}{
	{nginx.Dialect, func(method, host, target string) string {
		return "GET /nginx HTTP/1.1\r\nHost: x\r\nX-Original-URL: https://" + host + target + "\r\nX-Original-Method: " + method
	}},
	{traefik.Dialect, forwardedTo("/traefik")},
	{caddy.Dialect, forwardedTo("/caddy")},
	{haproxy.Dialect, forwardedTo("/haproxy")},
	{envoy.Dialect, func(method, host, target string) string {
		return method + " /envoy" + target + " HTTP/1.1\r\nHost: " + host
	}},
}

func forwardedTo(path string) func(method, host, target string) string {
	return func(method, host, target string) string {
		return "GET " + path + " HTTP/1.1\r\nHost: x\r\nX-Forwarded-Method: " + method + "\r\nX-Forwarded-Host: " + host + "\r\nX-Forwarded-Uri: " + target
	}
}

// Each dialect tells the client's request as the proxy told it, whatever the client's
// path is and whatever fields it adds behind the proxy's; and never a line break.
func FuzzOriginal(f *testing.F) {
	for _, path := range []string{"", "orders", "a/../b", "/evil.example", "%2e%2e/x", "a:b@c", "http://evil.example/x", "a\tb", "\xff", "é", "a?b", "\\evil", "a#b", "://x", strings.Repeat("a/", 900)} {
		f.Add(path, "b=c", "GET", "app.example", "")
		f.Add(path, "?x=://y/?z", "OPTIONS", "app.example:8443", "X-Original-URL: https://evil.example/admin\r\nX-Original-Method: OPTIONS\r\nX-Forwarded-Uri: /admin\r\nX-Forwarded-Method: OPTIONS\r\nX-Forwarded-Host: evil")
		f.Add(path, "", "DELETE", "app.example", "x-original-url: /\r\nX_Original_Method: OPTIONS\r\nx-forwarded-uri:\r\n /folded")
	}
	f.Fuzz(func(t *testing.T, path, query, method, host, more string) {
		want := forwardauth.Original{Method: clean(method, "/?"), Host: clean(host, "/?"), Path: "/" + clean(path, "?"), Query: clean(query, "")}
		if want.Method == "" || want.Host == "" {
			return
		}
		target := want.Path
		if want.Query != "" {
			target += "?" + want.Query
		}
		for _, ask := range asks {
			// No proxy lets a client's line begin with a space, which would continue its own.
			text := ask.lines(want.Method, want.Host, target) + "\r\nVia: proxy\r\n" + more + "\r\n\r\n"
			var h fasthttp.RequestHeader
			if h.Read(bufio.NewReaderSize(strings.NewReader(text), 64<<10)) != nil {
				continue // it is not answered, see FuzzGate
			}
			got := ask.dialect.Original(&h)
			if strings.ContainsAny(got.Method+got.Host+got.Path+got.Query, "\r\n\x00") {
				t.Errorf("%s: %q tells %+q", ask.dialect.Name, text, got)
			}
			if got != want {
				t.Errorf("%s: %q tells %+q, want %+q", ask.dialect.Name, text, got, want)
			}
		}
	})
}

// clean returns the text as a proxy lets it stand in a request line or a field: visible
// characters, without those that would end that part of it.
func clean(text, ends string) string {
	return strings.Map(func(r rune) rune {
		if r <= ' ' || r == 0x7f || strings.ContainsRune(ends, r) {
			return -1
		}
		return r
	}, text)
}
