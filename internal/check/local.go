package check

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"regexp"
	"strings"
	"syscall"
	"time"
)

func (v *visit) noWebhook() string {
	if len(v.WebhookSecrets) > 0 {
		return ""
	}
	return "AUTHGEAR_WEBHOOK_SECRET is not set: Authgear's events are not taken"
}

// generated is what Authgear makes. Contract §6.
var generated = regexp.MustCompile(`^[A-Za-z0-9]{32}$`)

// webhookSecret looks for slips in copying. A secret of your own may be of any form.
func (v *visit) webhookSecret(context.Context) finding {
	const copyIt = "copy it anew from the webhook page of Authgear's portal"
	for _, secret := range v.WebhookSecrets {
		decoded, err := base64.RawURLEncoding.DecodeString(secret)
		switch {
		case err == nil && generated.Match(decoded):
			return fail("the secret is in base64url, as the k of a JWK: no signature will match", "decode it, or "+copyIt)
		case strings.ContainsFunc(secret, func(c rune) bool { return c <= ' ' || c >= 0x7f }):
			return warn("the secret has spaces, or characters that are not ASCII", copyIt)
		case strings.Trim(secret, `"'`) != secret:
			return warn("the secret has quotation marks around it, which count as a part of it", "take them away")
		}
	}
	if len(v.WebhookSecrets) == 2 && v.WebhookSecrets[0] == v.WebhookSecrets[1] {
		return warn("both secrets are the same", "one is enough")
	}
	return pass("its form is good; whether it is the project's shows with the first event")
}

func (v *visit) noTLS() string {
	if v.Certificate != nil {
		return ""
	}
	return "AUTHGEAR_TLS_CERT is not set: the main listener speaks plain HTTP"
}

// tls looks at the certificate that is shown to whoever asks. That its files can be read is
// one of the settings.
func (v *visit) tls(context.Context) finding {
	if v.Unfit != nil {
		found, cure := split(v.Unfit.Error())
		return fail(found, cure)
	}
	found, soon := lasts(v.Certificate, v.Certificate.NotAfter)
	if soon {
		return warn(found, "does its renewal work? At the end of it nobody can ask the service")
	}
	return pass("%s", found)
}

func (v *visit) listen(context.Context) finding {
	return v.listens("AUTHGEAR_LISTEN", v.Listen)
}

func (v *visit) adminListen(context.Context) finding {
	f := v.listens("AUTHGEAR_ADMIN_LISTEN", v.Admin)
	host, _, err := net.SplitHostPort(v.Admin.Address)
	if f.status == Passed && err == nil && host != "unix" && !isLoopback(host) {
		return warn(f.found+"; other machines can reach it", "it is for operators: let a firewall or NetworkPolicy keep others away, or take AUTHGEAR_ADMIN_LISTEN=127.0.0.1:4181")
	}
	return f
}

// listens tells whether the service can listen there, or does so already. What was
// opened stays open until the end, so that the other listener is no other one.
func (v *visit) listens(variable string, l Listener) finding {
	opened, err := l.Open()
	switch {
	case err == nil && opened == nil:
		return pass("%s is of a process that has ended: the service replaces it", l.Address)
	case err == nil:
		v.open = append(v.open, opened)
		return pass("%s is free", l.Address)
	}
	if v.alive() {
		return pass("%s is in use, and the service is alive at AUTHGEAR_ADMIN_LISTEN", l.Address)
	}
	cure := fmt.Sprintf("%s must be an address of this machine that is free", variable)
	switch {
	case errors.Is(err, syscall.EADDRINUSE):
		cure = fmt.Sprintf("is AUTHGEAR_LISTEN or another process there? End that one, or choose another %s", variable)
	case errors.Is(err, syscall.EACCES):
		cure = fmt.Sprintf("choose a port from 1024 on, or a directory in which the service may write, in %s", variable)
	}
	return fail(err.Error(), cure)
}

// alive tells whether the service runs already, as the healthcheck command does.
func (v *visit) alive() bool {
	dial := func(context.Context, string, string) (net.Conn, error) { return v.Admin.Dial() }
	client := &http.Client{Transport: &http.Transport{DialContext: dial, DisableKeepAlives: true}, Timeout: time.Second}
	resp, err := client.Get("http://localhost/healthz")
	if err != nil {
		return false
	}
	defer resp.Body.Close()
	body, _ := io.ReadAll(io.LimitReader(resp.Body, 16))
	return resp.StatusCode == http.StatusOK && string(body) == "ok\n"
}
