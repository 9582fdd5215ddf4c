// Package caddy speaks to Caddy's forward_auth.
package caddy

import (
	_ "embed"
	"regexp"
	"strings"

	"authgear-forward-auth/internal/forwardauth"
	"authgear-forward-auth/internal/snippet"
)

// Dialect is that of Caddy.
var Dialect = forwardauth.Dialect{
	Name:     "caddy",
	Original: forwardauth.XForwarded,
}

//go:embed Caddyfile
var conf string

// Config is the Caddyfile.
func Config(s snippet.Setup) ([]snippet.File, error) {
	edits := []string{
		snippet.Shipped.Service, strings.Replace(s.Service, "unix:", "unix/", 1),
		snippet.Shipped.App, s.App,
		`import authgear ""`, `import authgear "` + strings.TrimPrefix(s.Query(), "?") + `"`,
	}
	if s.SignIn != "" {
		edits = append(edits, SignIn(s.SignIn)...)
	}
	text, err := snippet.Edit(conf, edits...)
	return []snippet.File{{Name: "Caddyfile", Text: text}}, err
}

// SignIn returns the edits of the Caddyfile, old text and new in turn, by which a
// browser that asks for a page is sent to that path of the application to sign in.
func SignIn(path string) []string {
	return []string{
		"#signin ", "",
		`import authgear ""`, `import authgear "sign_in=` + path + `"`,
		`import authgear "role=admin"`, `import authgear "role=admin&sign_in=` + path + `"`,
		"`^/login(", "`^" + regexp.QuoteMeta(path) + "(",
	}
}
