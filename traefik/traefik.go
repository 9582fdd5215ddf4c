// Package traefik speaks to the ForwardAuth middleware of Traefik, and to those who ask alike: APISIX.
package traefik

import "authgear-forward-auth/internal/forwardauth"

// Dialect is that of Traefik.
var Dialect = forwardauth.Dialect{
	Name:     "traefik",
	Original: forwardauth.XForwarded,
}
