package check

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"strings"
	"time"

	"authgear-forward-auth/internal/fleet"
)

func (v *visit) noRedis() string {
	if v.RedisURL != "" {
		return ""
	}
	return "AUTHGEAR_REDIS_URL is not set: this replica needs no Redis"
}

// redis does what a fleet does there, and looks at what would keep one from sharing.
func (v *visit) redis(ctx context.Context) finding {
	s, err := fleet.Probe(ctx, v.RedisURL)
	if err != nil {
		return redisFault(err)
	}
	clocks, ahead := "its clock agrees with this machine's", s.Ahead.Round(time.Millisecond)
	if ahead.Abs() >= 10*time.Millisecond {
		clocks = fmt.Sprintf("its clock is %s ahead of this machine's", ahead)
	}
	found := fmt.Sprintf("all that a fleet asks for is allowed; it answers in %s; %s", s.RoundTrip.Round(10*time.Microsecond), clocks)
	if s.Version != "" {
		found = fmt.Sprintf("version %s; %s", s.Version, found)
	}
	const ntp = "set the clocks of this machine and of Redis's by NTP: timedatectl set-ntp true"
	switch {
	case ahead.Abs() > v.ClockSkew:
		return fail(fmt.Sprintf("%s, and AUTHGEAR_CLOCK_SKEW is %s: nothing would be shared", clocks, v.ClockSkew), ntp)
	case s.RoundTrip > fleet.Budget:
		return fail(fmt.Sprintf("it answers in %s, and no request waits for it longer than %s: nothing would be shared", s.RoundTrip.Round(time.Millisecond), fleet.Budget),
			"take a Redis in the same region, or look at what keeps this one busy: redis-cli --latency, SLOWLOG GET")
	case strings.HasPrefix(s.Eviction, "allkeys-"):
		return warn(fmt.Sprintf("%s; its maxmemory-policy is %s: when its memory is full, it may drop the events that replicas have not read", found, s.Eviction),
			"set maxmemory-policy to volatile-ttl, or give the fleet a Redis of its own")
	case ahead.Abs() > fleet.Difference/2:
		return warn(fmt.Sprintf("%s; replicas whose clocks differ by more than %s share nothing with each other", found, fleet.Difference), ntp)
	case s.RoundTrip > fleet.Budget/2:
		return warn(fmt.Sprintf("%s; no request waits for it longer than %s", found, fleet.Budget), "is it in the same region, and not busy?")
	}
	return pass("%s", found)
}

// redisCures are what to do about what Redis answers. :: part of the text → cure
var redisCures = []struct{ text, cure string }{
	{"WRONGPASS", "are user and password of AUTHGEAR_REDIS_URL right? redis://user:password@host:6379; a character such as @ or / in them is written %40, %2F"},
	{"NOAUTH", "it wants a password: AUTHGEAR_REDIS_URL=redis://user:password@host:6379"},
	{"HELLO must be called", "it wants a password: AUTHGEAR_REDIS_URL=redis://user:password@host:6379"},
	{"DENIED", "it runs in protected mode: give it a password, or an address to bind"},
	{"NOPERM", "let the user do this: ACL SETUSER; docs/fleet.md has the rules that a fleet needs"},
	{"READONLY", "this is a replica of a Redis: name the primary in AUTHGEAR_REDIS_URL, or Sentinel with ?master_set=name"},
	{"MISCONF", "it takes no writes, since it cannot save to its disk: look at its log"},
	{"OOM ", "its memory is full: give it more, and set maxmemory-policy to volatile-ttl"},
	{"LOADING", "it is starting: try again in a moment"},
	{"Invalid stream ID", "it does not know MINID: is it Redis 6.2 or later, or Valkey?"},
	{"unknown command", "is it Redis 6.2 or later, or Valkey? Some services rename commands: a fleet needs this one"},
	{"DB index is out of range", "is the number behind the host in AUTHGEAR_REDIS_URL that of a database? In a cluster there is only 0"},
}

// redisFault names the cure of what kept Redis from being asked.
func redisFault(err error) finding {
	var name *net.DNSError
	var host x509.HostnameError
	var bad x509.CertificateInvalidError
	var unknown x509.UnknownAuthorityError
	text := err.Error()
	for _, c := range redisCures {
		if strings.Contains(text, c.text) {
			return fail(text, c.cure)
		}
	}
	switch {
	case strings.HasPrefix(text, "AUTHGEAR_REDIS_URL: "):
		return fail(split(text))
	case errors.As(err, &name):
		return fail(text, "is the host of AUTHGEAR_REDIS_URL right? Can this machine look names up: nslookup "+name.Name)
	case errors.As(err, &host):
		return fail(text, "is the host of AUTHGEAR_REDIS_URL right? Else Redis needs a certificate with that name")
	case errors.As(err, &bad) && bad.Reason == x509.Expired:
		return fail(text, "renew Redis's certificate. Is the clock of this machine right?")
	case errors.As(err, &unknown):
		return fail(text, "is it an authority of your own, or a self-signed certificate? Name the file that has it in SSL_CERT_FILE, for this service too")
	case errors.Is(err, context.DeadlineExceeded):
		return fail("there is no answer in time", "is Redis up, and does a firewall or NetworkPolicy let this machine through to AUTHGEAR_REDIS_URL? "+tlsOrNot)
	}
	return fail(text, "does Redis listen there, are host and port of AUTHGEAR_REDIS_URL right, and does a firewall or NetworkPolicy let this machine through? "+tlsOrNot)
}

const tlsOrNot = "It is rediss:// if Redis speaks TLS there, and redis:// if not; it must not want a certificate of its clients (tls-auth-clients no)"
