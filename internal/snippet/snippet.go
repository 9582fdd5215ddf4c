// Package snippet fits the configuration that we ship for a proxy to a setup. What
// is shipped comes out for the defaults, so there are no two that could differ.
package snippet

import (
	"errors"
	"fmt"
	"net"
	"regexp"
	"strconv"
	"strings"
	"unicode/utf8"
)

// A Setup is what differs from one user to the next.
type Setup struct {
	Service      string // where the proxy asks: host:port or unix:/path
	App          string // where the application is: host:port
	Policy       string // of what has no location of its own, as in the query of an auth path
	CookiePrefix string // AUTHGEAR_COOKIE_PREFIX
	ProxyCache   bool   // whether AUTHGEAR_PROXY_CACHE lets nginx reuse a 200
	SignIn       string // the path of the application where browsers sign in; empty: they get the 401
}

// Shipped is the setup of the shipped files.
var Shipped = Setup{Service: "127.0.0.1:4180", App: "127.0.0.1:8000"}

// A File is one that a proxy reads.
type File struct{ Name, Text string }

// A Config makes the files of a proxy for a setup.
type Config func(Setup) ([]File, error)

// Make returns the files of a proxy. What a setup holds goes into them as it
// stands, so it may have no character that means something there.
func (c Config) Make(s Setup) ([]File, error) {
	for _, text := range []string{s.Service, s.App, s.Policy, s.CookiePrefix, s.SignIn} {
		if i := strings.IndexFunc(text, special); i >= 0 {
			c, size := utf8.DecodeRuneInString(text[i:])
			return nil, fmt.Errorf("%q: the character %q may not stand in a configuration; in a policy write %s", text, c, percent(text[i:i+size]))
		}
	}
	if !isHostPort(s.App) {
		return nil, fmt.Errorf("-app: must be host:port, not %q", s.App)
	}
	if !strings.HasPrefix(s.Service, "unix:/") && !isHostPort(s.Service) {
		return nil, fmt.Errorf("-service: must be host:port or unix:/path, not %q", s.Service)
	}
	return c(s)
}

var hostname = regexp.MustCompile(`^[A-Za-z0-9._-]+$`)

func isHostPort(address string) bool {
	host, port, err := net.SplitHostPort(address)
	if n, notANumber := strconv.ParseUint(port, 10, 16); err != nil || notANumber != nil || n == 0 {
		return false
	}
	return net.ParseIP(host) != nil || hostname.MatchString(host)
}

// percent writes each byte as a query may have it.
func percent(text string) string {
	var b strings.Builder
	for i := range len(text) {
		fmt.Fprintf(&b, "%%%02X", text[i])
	}
	return b.String()
}

func special(c rune) bool {
	return !('a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' || strings.ContainsRune("-._~:/=&%+[]", c))
}

// Query is the policy, and where to sign in, with the question mark before it; or nothing.
func (s Setup) Query() string {
	var params []string
	if s.Policy != "" {
		params = append(params, s.Policy)
	}
	if s.SignIn != "" {
		params = append(params, "sign_in="+s.SignIn)
	}
	if len(params) == 0 {
		return ""
	}
	return "?" + strings.Join(params, "&")
}

// Edit returns text with each old part, wherever it stands, replaced by the new one
// that follows it. One that does not stand there is an error: the setup would not be
// followed. Where two old parts are the same the first counts: a [Config] that names a
// policy does so before the edits for the sign-in, which know of none.
func Edit(text string, oldnew ...string) (string, error) {
	for i := 0; i < len(oldnew); i += 2 {
		if !strings.Contains(text, oldnew[i]) {
			return "", fmt.Errorf("there is no %q", oldnew[i])
		}
	}
	return strings.NewReplacer(oldnew...).Replace(text), nil
}

// HostPort returns the halves of an address, for a proxy that asks over TCP alone.
func HostPort(address string) (host, port string, err error) {
	if strings.HasPrefix(address, "unix:") {
		return "", "", errors.New("this proxy does not ask over a unix socket: set AUTHGEAR_LISTEN to host:port")
	}
	return net.SplitHostPort(address)
}
