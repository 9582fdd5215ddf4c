// Package envoy speaks to Envoy's ext_authz filter over HTTP, and to those who ask
// alike: Istio, Gateway API.
package envoy

import (
	"strings"

	"github.com/valyala/fasthttp"

	"authgear-forward-auth/internal/forwardauth"
)

// Prefix is how the target of a subrequest begins: path_prefix in envoy.yaml, and
// what the client asks for behind it.
const Prefix = "/envoy/"

// Dialect is that of ext_authz.
var Dialect = forwardauth.Dialect{
	Name:        "envoy",
	Original:    original,
	ClientQuery: true,
}

// original reads the subrequest itself: its method and host are the client's, and
// its path is, behind the prefix.
func original(h *fasthttp.RequestHeader) forwardauth.Original {
	path := strings.TrimPrefix(string(h.RequestURI()), strings.TrimSuffix(Prefix, "/"))
	path, _, _ = strings.Cut(path, "?")
	return forwardauth.Original{Method: string(h.Method()), Host: string(h.Host()), Path: path}
}
