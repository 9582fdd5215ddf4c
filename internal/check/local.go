package check

import (
	"bufio"
	"context"
	"crypto/tls"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"io/fs"
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
	return v.listens("AUTHGEAR_LISTEN", v.Listen, v.serving)
}

func (v *visit) adminListen(context.Context) finding {
	f := v.listens("AUTHGEAR_ADMIN_LISTEN", v.Admin, v.alive)
	host, _, err := net.SplitHostPort(v.Admin.Address)
	if f.status == Passed && err == nil && host != "unix" && !isLoopback(host) {
		return warn(f.found+"; other machines can reach it", "it is for operators: let a firewall or NetworkPolicy keep others away, or take AUTHGEAR_ADMIN_LISTEN=127.0.0.1:4181")
	}
	return f
}

// listens tells whether the service can listen there, or does so already. What was
// opened stays open until the end, so that the other listener is no other one.
func (v *visit) listens(variable string, l Listener, ours func() bool) finding {
	opened, err := l.Open()
	switch {
	case err == nil && opened == nil:
		return pass("%s is of a process that has ended: the service replaces it", l.Address)
	case err == nil:
		v.open = append(v.open, opened)
		return pass("%s is free", l.Address)
	}
	if errors.Is(err, syscall.EADDRINUSE) && ours() {
		return pass("%s is in use by the service itself", l.Address)
	}
	return fail(err.Error(), ListenCure(variable, err))
}

// ListenCure says what to do where the service cannot listen.
func ListenCure(variable string, err error) string {
	cure := "%s must be an address of this machine that is free"
	switch {
	case errors.Is(err, syscall.EADDRINUSE):
		cure = "is AUTHGEAR_LISTEN or another process there? End that one, or choose another %s"
	case errors.Is(err, fs.ErrPermission), errors.Is(err, syscall.EROFS):
		cure = "choose a port from 1024 on, or a directory in which the service may write, in %s"
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, syscall.ENOTDIR):
		cure = "make the directory of the socket, or choose another %s"
	case errors.Is(err, fs.ErrExist):
		cure = "move that file away, or choose another %s"
	}
	return fmt.Sprintf(cure, variable)
}

// alive tells whether the service answers at the admin listener, as the healthcheck command
// does.
func (v *visit) alive() bool {
	resp, body, err := v.Admin.ask(nil, http.MethodGet, "/healthz")
	return err == nil && resp.StatusCode == http.StatusOK && body == "ok\n"
}

// serving tells whether the service answers at the main listener: who forgets nobody says so
// as it does.
func (v *visit) serving() bool {
	var secure *tls.Config
	shown, asked := false, false
	if v.Certificate != nil {
		secure = &tls.Config{
			InsecureSkipVerify: true, // it must be ours, whoever has signed it
			VerifyConnection: func(s tls.ConnectionState) error {
				shown = s.PeerCertificates[0].Equal(v.Certificate)
				return nil
			},
			GetClientCertificate: func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
				asked = true
				return new(tls.Certificate), nil
			},
		}
	}
	resp, body, err := v.Listen.ask(secure, http.MethodPost, "/forget")
	if err != nil {
		return shown && asked // it wants a certificate, which we have not
	}
	return resp.StatusCode == http.StatusNoContent && resp.Header.Get("Cache-Control") == "no-store" && body == ""
}

// ask puts a question to what listens there, with TLS or without (nil).
func (l Listener) ask(secure *tls.Config, method, path string) (resp *http.Response, body string, err error) {
	conn, err := l.Dial()
	if err != nil {
		return nil, "", err
	}
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(time.Second))
	if secure != nil {
		conn = tls.Client(conn, secure)
	}
	req, err := http.NewRequest(method, "http://localhost"+path, nil)
	if err != nil {
		return nil, "", err
	}
	if err := req.Write(conn); err != nil {
		return nil, "", err
	}
	resp, err = http.ReadResponse(bufio.NewReader(conn), req)
	if err != nil {
		return nil, "", err
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(io.LimitReader(resp.Body, 16))
	return resp, string(text), err
}
