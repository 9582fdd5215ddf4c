// Package traefik speaks to the ForwardAuth middleware of Traefik, and to those who ask alike: APISIX.
package traefik

import (
	_ "embed"

	"authgear-forward-auth/internal/forwardauth"
	"authgear-forward-auth/internal/snippet"
)

// Dialect is that of Traefik.
var Dialect = forwardauth.Dialect{
	Name:     "traefik",
	Original: forwardauth.XForwarded,
}

var (
	//go:embed traefik.yml
	static string
	//go:embed dynamic.yml
	dynamic string
)

// Config is traefik.yml and dynamic.yml.
func Config(s snippet.Setup) ([]snippet.File, error) {
	if _, _, err := snippet.HostPort(s.Service); err != nil {
		return nil, err
	}
	text, err := snippet.Edit(dynamic,
		snippet.Shipped.Service, s.Service,
		snippet.Shipped.App, s.App,
		"/traefik\n", "/traefik"+s.Query()+"\n",
		"addAuthCookiesToResponse: [session]", "addAuthCookiesToResponse: ["+s.CookiePrefix+"session]",
	)
	return []snippet.File{{Name: "traefik.yml", Text: static}, {Name: "dynamic.yml", Text: text}}, err
}
