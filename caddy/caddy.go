// Package caddy speaks to Caddy's forward_auth.
package caddy

import (
	_ "embed"
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
	text, err := snippet.Edit(conf,
		snippet.Shipped.Service, strings.Replace(s.Service, "unix:", "unix/", 1),
		snippet.Shipped.App, s.App,
		`import authgear ""`, `import authgear "`+s.Policy+`"`,
	)
	return []snippet.File{{Name: "Caddyfile", Text: text}}, err
}
