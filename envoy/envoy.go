// Package envoy speaks to Envoy's ext_authz filter over HTTP, and to those who ask
// alike: Istio, Gateway API.
package envoy

import (
	_ "embed"
	"errors"
	"strings"

	"github.com/valyala/fasthttp"

	"authgear-forward-auth/internal/forwardauth"
	"authgear-forward-auth/internal/snippet"
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
	path, query, _ := strings.Cut(path, "?")
	return forwardauth.Original{Method: string(h.Method()), Host: string(h.Host()), Path: path, Query: query}
}

//go:embed envoy.yaml
var conf string

// Config is envoy.yaml. It has no room for a policy.
func Config(s snippet.Setup) ([]snippet.File, error) {
	if s.Query() != "" {
		return nil, errors.New("ext_authz leaves no room for a policy: path and query of its question are the client's")
	}
	shippedApp, _ := endpoint(snippet.Shipped.App)
	shippedService, _ := endpoint(snippet.Shipped.Service)
	app, appErr := endpoint(s.App)
	service, serviceErr := endpoint(s.Service)
	text, err := snippet.Edit(conf, shippedApp, app, shippedService, service)
	return []snippet.File{{Name: "envoy.yaml", Text: text}}, errors.Join(appErr, serviceErr, err)
}

func endpoint(address string) (string, error) {
	host, port, err := snippet.HostPort(address)
	return `address: "` + host + `", port_value: ` + port, err
}
