package main

import (
	"bytes"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"syscall"

	"github.com/dustin/go-humanize"
	"github.com/rs/zerolog"

	"authgear-forward-auth/internal/forwardauth"
)

// Each type reads one kind of setting; what it says goes behind the name of
// the variable.

type httpURL struct{ *url.URL }

func (u *httpURL) UnmarshalText(b []byte) error {
	parsed, err := url.Parse(string(b))
	if err != nil || parsed.Scheme != "http" && parsed.Scheme != "https" || parsed.Hostname() == "" {
		return fmt.Errorf("must be a URL that begins with https:// (or http://) and a host, and this begins with %q", b[:min(len(b), 8)]) // the rest may be a password
	}
	if parsed.User != nil || parsed.RawQuery != "" || parsed.ForceQuery || parsed.Fragment != "" {
		return errors.New("must have no user, query or fragment")
	}
	port, err := strconv.ParseUint(parsed.Port(), 10, 16)
	if strings.HasSuffix(parsed.Host, ":") || parsed.Port() != "" && (err != nil || port == 0) {
		return fmt.Errorf("must have no port, or one between 1 and 65535: %q", parsed.Host)
	}
	u.URL = parsed
	return nil
}

// defaultPort is what an origin does not have (RFC 6454 §6.2): nor has an issuer, or the Host
// by which Authgear knows the project.
var defaultPort = map[string]string{"http": ":80", "https": ":443"}

type origin struct{ *url.URL }

func (o *origin) UnmarshalText(b []byte) error {
	var u httpURL
	if err := u.UnmarshalText(b); err != nil {
		return err
	}
	if u.Path != "" && u.Path != "/" {
		return fmt.Errorf("must be an origin alone, without the path %s", u.Path)
	}
	u.Path = "" // Authgear's issuer has no trailing slash
	u.Host = strings.TrimSuffix(strings.ToLower(u.Host), defaultPort[u.Scheme])
	o.URL = u.URL
	return nil
}

type mode string

func (m *mode) UnmarshalText(b []byte) error { return oneOf(m, b, hybrid, jwtOnly, resolverOnly) }

const (
	hybrid       mode = "hybrid"   // JWTs are checked here and confirmed by Authgear, all else is asked
	jwtOnly      mode = "jwt"      // Authgear's resolver is never asked
	resolverOnly mode = "resolver" // Authgear is asked about everything
)

// confirm is when a JWT that is seen for the first time is answered: before or
// after Authgear confirmed it.
type confirm string

func (c *confirm) UnmarshalText(b []byte) error { return oneOf(c, b, after, before) }

const (
	after  confirm = "after"
	before confirm = "before"
)

// secrets are never told again, in an error neither.
type secrets []string

func (s *secrets) UnmarshalText(b []byte) error {
	*s = nil
	for text := range strings.FieldsFuncSeq(string(b), func(r rune) bool { return strings.ContainsRune(",\r\n", r) }) {
		if text = strings.TrimSpace(text); text == "" {
			continue
		}
		if len(text) < 16 {
			return errors.New("must have 16 characters or more: copy it from the webhook page of Authgear's portal")
		}
		*s = append(*s, text)
	}
	if len(*s) == 0 {
		return errors.New("is empty: copy it from the webhook page of Authgear's portal")
	}
	if len(*s) > 2 {
		return errors.New("takes two secrets at most, the new one and the old one, with a comma or a line end between them")
	}
	return nil
}

// A secret is never told again, in an error neither. White space around it is none of it, as
// in a file.
type secret string

func (s *secret) UnmarshalText(b []byte) error {
	*s = secret(strings.TrimSpace(string(b)))
	return nil
}

type logLevel zerolog.Level

func (l *logLevel) UnmarshalText(b []byte) error {
	var name string
	if err := oneOf(&name, bytes.ToLower(b), "trace", "debug", "info", "warn", "error", "disabled"); err != nil {
		return err // zerolog would also take fatal, panic and numbers, and be silent
	}
	level, err := zerolog.ParseLevel(name)
	*l = logLevel(level)
	return err
}

type logFormat string

func (f *logFormat) UnmarshalText(b []byte) error { return oneOf(f, b, "json", "console") }

type decisions forwardauth.Decisions

func (d *decisions) UnmarshalText(b []byte) error {
	return oneOf(d, b, decisions(forwardauth.Denied), decisions(forwardauth.All), decisions(forwardauth.None))
}

func oneOf[T ~string](into *T, b []byte, allowed ...T) error {
	if !slices.Contains(allowed, T(b)) {
		return fmt.Errorf("must be one of %v, not %q", allowed, b)
	}
	*into = T(b)
	return nil
}

type cookieName string

func (n *cookieName) UnmarshalText(b []byte) error {
	if strings.ContainsFunc(string(b), func(c rune) bool {
		return c <= ' ' || c >= 0x7f || strings.ContainsRune(`()<>@,;:\"/[]?={}`, c)
	}) {
		return fmt.Errorf("%q cannot be in the name of a cookie", b)
	}
	*n = cookieName(b)
	return nil
}

type address string

func (a *address) UnmarshalText(b []byte) error {
	path, socket := strings.CutPrefix(string(b), "unix:")
	_, port, err := net.SplitHostPort(string(b))
	if socket && (path == "" || path[0] == '@') || !socket && (err != nil || port == "") { // no directory guards an abstract socket
		return fmt.Errorf("must be like 127.0.0.1:4180, :4180 or unix:/path/to.sock, not %q", b)
	}
	if most := len(syscall.RawSockaddrUnix{}.Path) - 1; len(path) > most && socket {
		return fmt.Errorf("must have a path of %d bytes at most, as sockets do, not of %d", most, len(path))
	}
	*a = address(b)
	return nil
}

type byteSize int64

func (s *byteSize) UnmarshalText(b []byte) error {
	n, err := humanize.ParseBytes(string(b))
	if err != nil || n < 1<<20 || n > 1<<40 {
		return fmt.Errorf("must be a size between 1MiB and 1TiB, such as 64MiB, not %q", b)
	}
	*s = byteSize(n)
	return nil
}

type prefixes []netip.Prefix

func (p *prefixes) UnmarshalText(b []byte) error {
	*p = nil
	for text := range strings.SplitSeq(string(b), ",") {
		text = strings.TrimSpace(text)
		if ip, err := netip.ParseAddr(text); err == nil {
			text = netip.PrefixFrom(ip, ip.BitLen()).String()
		}
		prefix, err := netip.ParsePrefix(text)
		if mapped := prefix.Addr().Is4In6(); mapped && prefix.Bits() >= 96 { // peers are compared without the mapping
			prefix = netip.PrefixFrom(prefix.Addr().Unmap(), prefix.Bits()-96)
		} else if err != nil || mapped {
			return fmt.Errorf("%q is neither an address nor a range such as 10.0.0.0/8", text)
		}
		*p = append(*p, prefix.Masked())
	}
	return nil
}
