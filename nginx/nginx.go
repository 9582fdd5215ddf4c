// Package nginx speaks to nginx's auth_request, and to those who ask alike:
// ingress-nginx, Angie, OpenResty.
package nginx

import (
	_ "embed"
	"regexp"
	"strings"

	"github.com/valyala/fasthttp"

	"authgear-forward-auth/internal/forwardauth"
	"authgear-forward-auth/internal/snippet"
)

// Dialect is that of auth_request. nginx gives up a kept-alive connection
// whose answer has a body, which makes a denial cost three times as much.
var Dialect = forwardauth.Dialect{
	Name:            "nginx",
	Original:        original,
	EmptyBodies:     true,
	Reuses:          true,
	LocationWith401: true,
}

// Cache is the edit of nginx.conf, old text and new, by which nginx itself may reuse
// a 200 for as long as the answer says.
var Cache = []string{"#cache ", ""}

// SignIn returns the edits of nginx.conf, old text and new in turn, by which a
// browser that asks for a page is sent to that path of the application to sign in.
func SignIn(path string) []string {
	return []string{
		"#signin ", "",
		"/nginx;", "/nginx?sign_in=" + path + ";",
		` /nginx\n`, ` /nginx?sign_in=` + path + `\n`,
		"?role=admin;", "?role=admin&sign_in=" + path + ";",
		`?role=admin\n`, "?role=admin&sign_in=" + path + `\n`,
		"location = /login {", "location = " + path + " {",
		`"~^/login(`, `"~^` + regexp.QuoteMeta(path) + `(`,
	}
}

// original reads X-Original-URL and X-Original-Method, as set in nginx.conf:
// host and path as the client sent them, whatever they are.
func original(h *fasthttp.RequestHeader) forwardauth.Original {
	_, rest, _ := strings.Cut(string(h.Peek("X-Original-Url")), "://")
	host, path, _ := strings.Cut(rest, "/")
	path, query, _ := strings.Cut("/"+path, "?")
	return forwardauth.Original{Method: string(h.Peek("X-Original-Method")), Host: host, Path: path, Query: query}
}

//go:embed nginx.conf
var conf string

// Config is nginx.conf.
func Config(s snippet.Setup) ([]snippet.File, error) {
	edits := []string{
		snippet.Shipped.Service, s.Service,
		snippet.Shipped.App, s.App,
		"/nginx;", "/nginx" + s.Query() + ";",
		` /nginx\n`, ` /nginx` + s.Query() + `\n`,
	}
	if s.SignIn != "" {
		edits = append(edits, SignIn(s.SignIn)...)
	}
	if s.ProxyCache {
		edits = append(edits, Cache...)
	}
	text, err := snippet.Edit(conf, edits...)
	return []snippet.File{{Name: "nginx.conf", Text: text}}, err
}
