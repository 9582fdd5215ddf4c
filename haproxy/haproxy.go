// Package haproxy speaks to HAProxy's Lua action in auth.lua.
package haproxy

import (
	_ "embed"
	"strings"

	"authgear-forward-auth/internal/forwardauth"
	"authgear-forward-auth/internal/snippet"
)

// Dialect is that of HAProxy.
var Dialect = forwardauth.Dialect{
	Name:     "haproxy",
	Original: forwardauth.XForwarded,
}

var (
	//go:embed haproxy.cfg
	conf string
	//go:embed auth.lua
	script string
)

// Config is haproxy.cfg and auth.lua.
func Config(s snippet.Setup) ([]snippet.File, error) {
	first := "    http-request set-var(txn.authgear_policy) str(?optional)"
	policy := ""
	if s.Policy != "" {
		policy = "    http-request set-var(txn.authgear_policy) str(?" + s.Policy + ")\n"
	}
	text, err := snippet.Edit(conf,
		snippet.Shipped.Service, strings.Replace(s.Service, "unix:", "unix@", 1),
		snippet.Shipped.App, s.App,
		first, policy+first,
	)
	return []snippet.File{{Name: "haproxy.cfg", Text: text}, {Name: "auth.lua", Text: script}}, err
}
