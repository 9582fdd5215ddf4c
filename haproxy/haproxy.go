// Package haproxy speaks to HAProxy's Lua action in auth.lua.
package haproxy

import "authgear-forward-auth/internal/forwardauth"

// Dialect is that of HAProxy.
var Dialect = forwardauth.Dialect{
	Name:     "haproxy",
	Original: forwardauth.XForwarded,
}
