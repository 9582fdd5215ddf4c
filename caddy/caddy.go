// Package caddy speaks to Caddy's forward_auth.
package caddy

import "authgear-forward-auth/internal/forwardauth"

// Dialect is that of Caddy.
var Dialect = forwardauth.Dialect{
	Name:     "caddy",
	Original: forwardauth.XForwarded,
}
