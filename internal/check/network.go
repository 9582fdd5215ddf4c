package check

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"strings"
	"time"
)

// A target is where the service asks.
type target struct {
	variable string // the setting that says so
	url      *url.URL
}

// address is host:port.
func address(u *url.URL) string {
	port := u.Port()
	if port == "" {
		port = map[string]string{"http": "80", "https": "443"}[u.Scheme]
	}
	return net.JoinHostPort(u.Hostname(), port)
}

func isLoopback(host string) bool {
	ip, err := netip.ParseAddr(host)
	return host == "localhost" || err == nil && ip.IsLoopback()
}

func (t target) lookUp(ctx context.Context) finding {
	host := t.url.Hostname()
	if _, err := netip.ParseAddr(host); err == nil {
		return pass("%s is an address, there is no name to look up", host)
	}
	found, err := net.DefaultResolver.LookupHost(ctx, host)
	if err != nil {
		return fail(err.Error(), fmt.Sprintf("is the host of %s right? Can this machine look names up: nslookup %s", t.variable, host))
	}
	return pass("%s is %s", host, strings.Join(found[:min(3, len(found))], ", "))
}

func (t target) connect(ctx context.Context) finding {
	conn, err := new(net.Dialer).DialContext(ctx, "tcp", address(t.url))
	if err != nil {
		return fail(err.Error(), fmt.Sprintf("does Authgear listen there, are host and port of %s right, and does a firewall or NetworkPolicy let this machine through?", t.variable))
	}
	conn.Close()
	return pass("%s takes connections", address(t.url))
}

// plain says why there is no handshake; empty if there is one.
func (t target) plain() string {
	if t.url == nil || t.url.Scheme == "https" {
		return ""
	}
	return "http:// has no TLS"
}

func (t target) shakeHands(ctx context.Context) finding {
	conn, err := new(tls.Dialer).DialContext(ctx, "tcp", address(t.url))
	if err != nil {
		return t.noTLS(err)
	}
	defer conn.Close()
	state := conn.(*tls.Conn).ConnectionState()
	found, soon := lasts(state.PeerCertificates[0], end(state.VerifiedChains))
	found = tls.VersionName(state.Version) + "; " + found
	if soon {
		return warn(found, "does its renewal work? At the end of it Authgear cannot be asked")
	}
	return pass("%s", found)
}

// lasts says how long a certificate is good that ends then, and whether that is soon.
func lasts(leaf *x509.Certificate, ends time.Time) (found string, soon bool) {
	left := time.Until(ends)
	found = fmt.Sprintf("the certificate is good for %d more days, until %s", int(left.Hours()/24), ends.UTC().Format(time.DateOnly))
	// One that is made for some days is not renewed two weeks before its end.
	return found, left < min(14*24*time.Hour, leaf.NotAfter.Sub(leaf.NotBefore)/6)
}

// end is when the chain ends that lasts longest.
func end(chains [][]*x509.Certificate) (latest time.Time) {
	for _, chain := range chains {
		earliest := chain[0].NotAfter
		for _, c := range chain {
			if c.NotAfter.Before(earliest) {
				earliest = c.NotAfter
			}
		}
		if earliest.After(latest) {
			latest = earliest
		}
	}
	return latest
}

// noTLS tells why there is none.
func (t target) noTLS(err error) finding {
	var name x509.HostnameError
	var bad x509.CertificateInvalidError
	var unknown x509.UnknownAuthorityError
	var noTLS tls.RecordHeaderError
	switch {
	case errors.As(err, &name):
		return fail(name.Error(), fmt.Sprintf("is the host of %s right? Else the server needs a certificate with that name", t.variable))
	case errors.As(err, &bad) && bad.Reason == x509.Expired:
		return fail(bad.Error(), "renew it on the server. Is the clock of this machine right?")
	case errors.As(err, &unknown):
		return fail(unknown.Error(), "is it an authority of your own, or a self-signed certificate? Name the file that has it in SSL_CERT_FILE, for this service too")
	case errors.As(err, &noTLS):
		return fail("what answers there speaks no TLS", fmt.Sprintf("are scheme and port of %s right?", t.variable))
	}
	return fail(err.Error(), fmt.Sprintf("does Authgear's certificate, or something on the way, keep %s from speaking TLS?", address(t.url)))
}

func first(texts ...string) string {
	for _, s := range texts {
		if s != "" {
			return s
		}
	}
	return ""
}
