// Package haproxy speaks to HAProxy's Lua action in auth.lua.
package haproxy

import (
	_ "embed"
	"fmt"
	"net"
	"strings"

	"authgear-forward-auth/internal/forwardauth"
	"authgear-forward-auth/internal/snippet"
)

// Dialect is that of HAProxy.
var Dialect = forwardauth.Dialect{
	Name:            "haproxy",
	Original:        forwardauth.XForwarded,
	LocationWith401: true,
}

// SignIn returns the edits of haproxy.cfg, old text and new in turn, by which a
// browser that asks for a page is sent to that path of the application to sign in.
func SignIn(path string) []string {
	return []string{
		"#signin ", "",
		"str(?sign_in=/login)", "str(?sign_in=" + path + ")",
		"str(?role=admin)", "str(?role=admin&sign_in=" + path + ")",
		"{ path /login }", "{ path " + path + " }",
	}
}

var (
	//go:embed haproxy.cfg
	conf string
	//go:embed auth.lua
	script string
)

// Config is haproxy.cfg and auth.lua.
func Config(s snippet.Setup) ([]snippet.File, error) {
	if own(s.Service) {
		return nil, fmt.Errorf("-service: at %s HAProxy itself listens, for auth.lua: let the service listen on another port", s.Service)
	}
	edits := []string{
		snippet.Shipped.Service, strings.Replace(s.Service, "unix:", "unix@", 1),
		snippet.Shipped.App, s.App,
	}
	const first = "    http-request set-var(txn.authgear_policy) str(?optional)   if public"
	switch {
	case s.SignIn != "":
		edits = append(append(edits, "str(?sign_in=/login)", "str("+s.Query()+")"), SignIn(s.SignIn)...)
	case s.Policy != "":
		edits = append(edits, first, "    http-request set-var(txn.authgear_policy) str("+s.Query()+")\n"+first)
	}
	text, err := snippet.Edit(conf, edits...)
	return []snippet.File{{Name: "haproxy.cfg", Text: text}, {Name: "auth.lua", Text: script}}, err
}

// own tells whether the address is that of "listen authgear_forward_auth": HAProxy
// would ask itself.
func own(service string) bool {
	host, port, err := snippet.HostPort(service)
	ip := net.ParseIP(host)
	return err == nil && port == "4179" && (host == "localhost" || ip != nil && (ip.IsLoopback() || ip.IsUnspecified()))
}
