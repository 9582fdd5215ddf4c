package resolver

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"net/url"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/valyala/fasthttp"

	"authgear-forward-auth/internal/direct"
)

// Remote asks Authgear's resolver, /_resolver/resolve. It tells what is true
// now. Contract §1.
type Remote struct {
	url, host, proto string
	cookies          [IDPSession + 1]string // cookie name by slot
	timeout          time.Duration
	client           *fasthttp.HostClient
}

// RemoteOptions say where and how to ask.
type RemoteOptions struct {
	Endpoint     *url.URL // public origin of the project
	URL          *url.URL // of the resolver
	CookiePrefix string   // the project's http.cookie_prefix
	Timeout      time.Duration
}

const (
	maxConns         = 128
	maxResolverBody  = 64 << 10
	maxResolverField = 32 << 10
)

// NewRemote returns a Remote that asks o.URL in the name of o.Endpoint.
func NewRemote(o RemoteOptions) *Remote {
	r := &Remote{
		url:     o.URL.String(),
		host:    o.Endpoint.Host,
		proto:   o.Endpoint.Scheme,
		timeout: o.Timeout,
		client: &fasthttp.HostClient{
			Addr:                     addr(o.URL),
			IsTLS:                    o.URL.Scheme == "https",
			NoDefaultUserAgentHeader: true,
			DisablePathNormalizing:   true,
			MaxConns:                 maxConns,
			ConnPoolStrategy:         fasthttp.LIFO, // those that a rush has opened fall idle, and end, when it is over
			// One more, for a kept connection that ended just then.
			MaxIdemponentCallAttempts: 2,
			MaxIdleConnDuration:       10 * time.Second,
			MaxConnDuration:           time.Minute, // then the name is looked up again
			ReadTimeout:               o.Timeout,
			WriteTimeout:              o.Timeout,
			MaxResponseBodySize:       maxResolverBody,
			ReadBufferSize:            maxResolverField,
			SecureErrorLogMessage:     true, // see tellable
			Dial:                      dial(o.Timeout),
		},
	}
	// Where one kept connection has ended, others may have: the second attempt is on a new one.
	r.client.RetryIfErr = func(_ *fasthttp.Request, _ int, err error) (resetTimeout, retry bool) {
		if late, ok := err.(interface{ Timeout() bool }); ok && late.Timeout() {
			return false, false
		}
		r.client.CloseIdleConnections()
		return false, true
	}
	r.cookies[AppSession] = o.CookiePrefix + "app_session"
	r.cookies[AppAccessToken] = o.CookiePrefix + "app_access_token"
	r.cookies[IDPSession] = o.CookiePrefix + "session"
	return r
}

func addr(u *url.URL) string {
	if u.Port() != "" {
		return u.Host
	}
	return net.JoinHostPort(u.Hostname(), map[string]string{"http": "80", "https": "443"}[u.Scheme])
}

// dial looks the name up each time; fasthttp's own dialer keeps it for a minute.
func dial(timeout time.Duration) fasthttp.DialFunc {
	d := &net.Dialer{Timeout: timeout}
	return func(addr string) (net.Conn, error) {
		c, err := d.Dial("tcp", addr)
		if err != nil {
			return nil, err
		}
		return direct.Conn(c), nil
	}
}

// Resolve returns what Authgear says of the credentials.
func (r *Remote) Resolve(ctx context.Context, c Credentials) (*Session, error) {
	if c.List = askable(c.List); len(c.List) == 0 {
		return nil, ErrNotAsked
	}
	req, resp := fasthttp.AcquireRequest(), fasthttp.AcquireResponse()
	defer fasthttp.ReleaseRequest(req)
	defer fasthttp.ReleaseResponse(resp)
	r.write(req, c)

	asked := time.Now()
	deadline := asked.Add(r.timeout)
	if d, ok := ctx.Deadline(); ok && d.Before(deadline) {
		deadline = d
	}
	s, err := r.ask(req, resp, deadline)
	if mayBeItsOwnDoing(err) && len(req.Header.UserAgent()) > 0 && resp.StatusCode() != fasthttp.StatusTooManyRequests {
		req.Header.SetUserAgent("") // what stands before Authgear may not like it
		if again, without := r.ask(req, resp, deadline); without == nil || errors.Is(without, ErrInvalid) {
			s, err = again, without
		}
	}
	if err != nil {
		return nil, err
	}
	s.Confirmed = asked
	return s, nil
}

func (r *Remote) ask(req *fasthttp.Request, resp *fasthttp.Response, deadline time.Time) (*Session, error) {
	err := r.client.DoDeadline(req, resp, deadline)
	if errors.Is(err, fasthttp.ErrConnectionClosed) || errors.Is(err, syscall.ECONNRESET) {
		return nil, dropped{unavailable("ask %s: %w", r.url, err)}
	}
	if err != nil {
		return nil, unavailable("ask %s: %w", r.url, tellable(err))
	}
	return r.read(resp)
}

// dropped is the error of a question that came to somebody, who ended the connection.
type dropped struct{ error }

func (d dropped) Unwrap() error { return d.error }

// mayBeItsOwnDoing tells whether a question found nothing out, maybe for what it has in it.
func mayBeItsOwnDoing(err error) bool {
	_, ended := errors.AsType[dropped](err)
	return ended || errors.Is(err, ErrRefused)
}

// tellable returns an error of a question without what was answered: whoever is there
// may have sent back what he was sent.
func tellable(err error) error {
	if strings.HasPrefix(err.Error(), "error when reading response headers") {
		return errors.New("the answer is not HTTP: does something else listen there?")
	}
	return err
}

// askable leaves out a bearer token that is none (b64token, RFC 6750 §2.1): Authgear
// issues no such token, so it need not be asked.
func askable(list []Credential) []Credential {
	if len(list) > 0 && list[0].Slot == Bearer && !isB64Token(list[0].Value) {
		return list[1:]
	}
	return list
}

// ErrNotAsked means that credentials are worthless by themselves: Authgear was not asked.
var ErrNotAsked error = invalid(MalformedCredential, "the bearer token has characters that none has")

func isB64Token(s string) bool {
	s = strings.TrimRight(s, "=")
	for i := 0; i < len(s); i++ {
		if !inB64Token[s[i]] {
			return false
		}
	}
	return s != ""
}

// inB64Token tells of each byte whether it may be in a token. A processor cannot foresee which
// comes next, so that comparing each would take a microsecond.
var inB64Token = func() (in [256]bool) {
	for _, c := range []byte("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-._~+/") {
		in[c] = true
	}
	return in
}()

// write puts the question together from the parsed credentials. No field of
// the client's request goes along but its User-Agent. Contract §1.3.
func (r *Remote) write(req *fasthttp.Request, c Credentials) {
	req.SetRequestURI(r.url)
	req.UseHostHeader = true
	h := &req.Header
	h.SetHost(r.host)
	h.Set("X-Forwarded-Proto", r.proto)
	if c.Client != nil {
		client := c.Client()
		if client.IP.IsValid() {
			h.Set("X-Forwarded-For", client.IP.Unmap().WithZone("").String())
		}
		if client.UserAgent != "" {
			h.SetUserAgent(client.UserAgent)
		}
	}
	for _, one := range c.List {
		if one.Slot == Bearer {
			h.Set("Authorization", "Bearer "+one.Value)
		} else {
			h.SetCookie(r.cookies[one.Slot], cookieText(one.Value))
		}
	}
}

// cookieText is how a cookie is written so that Authgear reads that very value:
// it drops spaces at the end, unless there are quotes around them.
func cookieText(value string) string {
	if strings.HasSuffix(value, " ") {
		return `"` + value + `"`
	}
	return value
}

// read tells the three outcomes apart. Authgear answers 200 to everyone; it is
// the X-Authgear-* fields that tell a user, a bad session and a bad token.
func (r *Remote) read(resp *fasthttp.Response) (*Session, error) {
	status := resp.StatusCode()
	switch {
	case status == fasthttp.StatusNotFound && bytes.HasPrefix(resp.Body(), []byte("app not found")):
		return nil, unavailable("the resolver answers 404 app not found: is the host of AUTHGEAR_ENDPOINT (%s) the project's public host?", r.host)
	case status == fasthttp.StatusNotFound:
		return nil, unavailable("the resolver answers 404: is AUTHGEAR_RESOLVER_URL (%s) Authgear's resolver, port 3001 and path /resolve on a server of your own?", r.url)
	case status >= 300 && status < 400:
		return nil, unavailable("the resolver answers %d to %q: does AUTHGEAR_RESOLVER_URL (%s) have the right scheme, host and path?", status, resp.Header.Peek("Location"), r.url)
	case status == 400, status == 413, status == 414, status == 431:
		return nil, unavailable("the resolver answers %d: is a credential too long for what stands before Authgear? (%w)", status, ErrRefused)
	case status > 400 && status < 500:
		return nil, unavailable("the resolver answers %d: does a firewall, or a limit of requests, stand before Authgear? (%w)", status, ErrRefused)
	case status >= 500:
		return nil, unavailable("the resolver answers %d: are Authgear's PostgreSQL and Redis up?", status)
	case status != fasthttp.StatusOK:
		return nil, unavailable("the resolver answers %d", status)
	case len(resp.Body()) > 0:
		return nil, unavailable("the resolver's 200 has a body (%s), which Authgear's has not: does something else, a login page or a gateway, answer at %s?", resp.Header.ContentType(), r.url)
	}
	fields, err := readFields(&resp.Header)
	if err != nil {
		return nil, unavailable("the resolver's answer is not Authgear's: %w", err)
	}
	switch fields["Session-Valid"] {
	case "true":
		return fields.session()
	case "false":
		return nil, &InvalidError{Reason: SessionInvalid, ClearCookie: r.clearCookie(&resp.Header)}
	}
	resp.Header.SetNoDefaultContentType(true)
	if kind := resp.Header.ContentType(); len(kind) > 0 && len(resp.Header.Peek("X-Robots-Tag")) == 0 { // Authgear's has the one and not the other
		return nil, unavailable("the resolver's 200 is an empty page (%s), which is not Authgear's: does something else answer at %s?", kind, r.url)
	}
	return nil, invalid(UnknownToken, "Authgear does not know the credential: it is expired, revoked or not its own")
}

// ErrRefused means that nothing was found out about these credentials, while others may be
// asked about: it may be their own doing, or their client's.
var ErrRefused = errors.New("others may be answered")

func unavailable(format string, args ...any) error {
	return &UnavailableError{ResolverUnavailable, fmt.Errorf(format, args...)}
}

// fields are Authgear's answer, without the X-Authgear- in front of each name.
type fields map[string]string

func readFields(h *fasthttp.ResponseHeader) (fields, error) {
	f := fields{}
	for name, value := range h.All() {
		key, ours := strings.CutPrefix(string(name), "X-Authgear-")
		if !ours {
			continue
		}
		if _, twice := f[key]; twice {
			return nil, fmt.Errorf("it has %s twice", name)
		}
		f[key] = string(value)
	}
	switch v, ok := f["Session-Valid"]; {
	case !ok && len(f) > 0:
		return nil, errors.New("it has X-Authgear-* fields, but not X-Authgear-Session-Valid")
	case ok && v != "true" && v != "false":
		return nil, errors.New("X-Authgear-Session-Valid is neither true nor false")
	}
	return f, nil
}

// session reads the fields of a valid session. Contract §1.4.
func (f fields) session() (*Session, error) {
	s := &Session{
		UserID: f["User-Id"],
		Roles:  shared(f["User-Roles"]),
		AMR:    shared(f["Session-Amr"]),
	}
	var problems []error
	fact := func(name string) Fact {
		switch f[name] {
		case "true":
			return True
		case "false":
			return False
		}
		problems = append(problems, fmt.Errorf("X-Authgear-%s is neither true nor false", name))
		return Unknown
	}
	s.Anonymous = fact("User-Anonymous")
	s.Verified = fact("User-Verified")
	s.CanReauthenticate = fact("User-Can-Reauthenticate")
	if at, ok := f["Session-Authenticated-At"]; ok {
		n, err := strconv.ParseInt(at, 10, 64)
		if err != nil || n < 0 {
			problems = append(problems, errors.New("X-Authgear-Session-Authenticated-At is no Unix time"))
		}
		s.AuthenticatedAt = n
	}
	if s.UserID == "" || !isVisible(s.UserID) || !isVisible(s.Roles) || !isVisible(strings.ReplaceAll(s.AMR, " ", "")) {
		problems = append(problems, errors.New("the user's id, roles or amr are missing or have characters that no HTTP field may hold"))
	}
	if err := errors.Join(problems...); err != nil {
		return nil, unavailable("the resolver's answer is not Authgear's: %w", err)
	}
	return s, nil
}

// clearCookie returns the line that takes the session cookie from the browser,
// if there is one that a field may hold. No other Set-Cookie of the resolver concerns
// the client.
func (r *Remote) clearCookie(h *fasthttp.ResponseHeader) string {
	for name, line := range h.All() { // PeekAll makes one line of all
		text := string(line)
		if string(name) == fasthttp.HeaderSetCookie && strings.HasPrefix(text, r.cookies[IDPSession]+"=;") && isVisible(strings.ReplaceAll(text, " ", "")) {
			return text
		}
	}
	return ""
}
