// Package nginx speaks to nginx's auth_request, and to those who ask alike:
// ingress-nginx, Angie, OpenResty.
package nginx

import (
	"net/url"

	"github.com/valyala/fasthttp"

	"authgear-forward-auth/internal/forwardauth"
)

// Dialect is that of auth_request. nginx gives up a kept-alive connection
// whose answer has a body, which makes a denial cost three times as much.
var Dialect = forwardauth.Dialect{
	Name:        "nginx",
	Original:    original,
	EmptyBodies: true,
}

// original reads X-Original-URL and X-Original-Method, as set in nginx.conf. A
// URL that cannot be read leaves host and path empty.
func original(h *fasthttp.RequestHeader) forwardauth.Original {
	o := forwardauth.Original{Method: string(h.Peek("X-Original-Method"))}
	if u, err := url.Parse(string(h.Peek("X-Original-Url"))); err == nil {
		o.Host, o.Path = u.Host, u.EscapedPath()
	}
	return o
}
