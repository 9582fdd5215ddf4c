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
	edits := []string{
		snippet.Shipped.Service, s.Service,
		snippet.Shipped.App, s.App,
		"/traefik\n", "/traefik" + s.Query() + "\n",
		"addAuthCookiesToResponse: [session]", "addAuthCookiesToResponse: [" + s.CookiePrefix + "session]",
		"addAuthCookiesToResponse: session\n", "addAuthCookiesToResponse: " + s.CookiePrefix + "session\n",
	}
	if s.SignIn != "" {
		edits = append(edits, SignIn(s.SignIn)...)
	}
	text, err := snippet.Edit(dynamic, edits...)
	return []snippet.File{{Name: "traefik.yml", Text: static}, {Name: "dynamic.yml", Text: text}}, err
}

// SignIn returns the edits of dynamic.yml, old text and new in turn, by which a
// browser that asks for a page is sent to that path of the application to sign in.
func SignIn(path string) []string {
	return []string{
		"#signin ", "",
		"/traefik\n", "/traefik?sign_in=" + path + "\n",
		"/traefik?role=admin\n", "/traefik?role=admin&sign_in=" + path + "\n",
		"Path(`/login`)", "Path(`" + path + "`)",
	}
}
