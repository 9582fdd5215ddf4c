package check

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptrace"
	"net/url"
	"slices"
	"strings"
	"time"

	"authgear-forward-auth/resolver"
)

// A reply is what a server said to a plain GET.
type reply struct {
	*http.Response
	body []byte
	took time.Duration
}

// get asks as the service does: by no proxy, without a User-Agent, which Authgear may
// block, and follows no redirection. host is the Host of the question; empty: that
// of the URL.
func (v *visit) get(ctx context.Context, u *url.URL, host string) (*reply, error) {
	began := time.Now()
	var asked time.Time
	ctx = httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{GotConn: func(httptrace.GotConnInfo) { asked = time.Now() }})
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, u.String(), nil)
	if err != nil {
		return nil, err
	}
	req.Host = host
	req.Header.Set("User-Agent", "")
	if host != "" {
		req.Header.Set("X-Forwarded-Proto", v.Endpoint.Scheme)
	}
	transport := &http.Transport{DisableKeepAlives: true, Protocols: new(http.Protocols)}
	transport.Protocols.SetHTTP1(true)
	client := &http.Client{Transport: transport, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	resp, err := client.Do(req)
	if err != nil {
		return nil, v.inTime(err)
	}
	defer resp.Body.Close()
	answered := time.Now()
	if date, err := http.ParseTime(resp.Header.Get("Date")); err == nil && v.clock == nil {
		v.clock = &sample{date, asked, answered}
	}
	body, err := io.ReadAll(io.LimitReader(resp.Body, 1<<20))
	if err != nil {
		return nil, v.inTime(err)
	}
	return &reply{resp, body, time.Since(began)}, nil
}

// inTime says in words that the time was over.
func (v *visit) inTime(err error) error {
	if errors.Is(err, context.DeadlineExceeded) {
		return fmt.Errorf("there is no answer within %s (AUTHGEAR_RESOLVER_TIMEOUT)", v.Timeout)
	}
	return err
}

func (v *visit) discovery(ctx context.Context) finding {
	r, err := v.get(ctx, v.Endpoint.JoinPath("/.well-known/openid-configuration"), "")
	if err != nil {
		return fail(err.Error(), isItUp)
	}
	v.observePrefix(r.Cookies())
	if r.StatusCode != http.StatusOK {
		return v.refused(r)
	}
	var doc struct {
		Issuer string `json:"issuer"`
		Keys   string `json:"jwks_uri"`
	}
	if json.Unmarshal(r.body, &doc) != nil {
		return fail(fmt.Sprintf("the answer (%s) is no discovery document", r.Header.Get("Content-Type")),
			fmt.Sprintf("does something else, a login page or a gateway, answer at AUTHGEAR_ENDPOINT (%s)?", v.Endpoint))
	}
	if doc.Issuer != v.Endpoint.String() {
		return fail(fmt.Sprintf("the issuer is %q, AUTHGEAR_ENDPOINT is %q: no token passes", doc.Issuer, v.Endpoint),
			fmt.Sprintf("AUTHGEAR_ENDPOINT=%s, if that is your project", doc.Issuer))
	}
	if ours := v.Endpoint.String() + "/oauth2/jwks"; doc.Keys != ours && v.Local {
		return warn(fmt.Sprintf("jwks_uri is %q; this service fetches %s", doc.Keys, ours), "does something rewrite what Authgear says of itself?")
	}
	return pass("the issuer is AUTHGEAR_ENDPOINT; answered in %s", r.took.Round(time.Millisecond))
}

// refused says what keeps main from serving its documents. Contract §3.4.
func (v *visit) refused(r *reply) finding {
	status := r.StatusCode
	found := fmt.Sprintf("the answer is %d", status)
	switch {
	case status >= 300 && status < 400:
		cure := "does something before Authgear, such as a login page, redirect?"
		if to, err := r.Location(); err == nil && (to.Scheme != v.Endpoint.Scheme || to.Host != v.Endpoint.Host) {
			cure = fmt.Sprintf("AUTHGEAR_ENDPOINT=%s://%s, if that is the project's public origin", to.Scheme, to.Host)
		}
		return fail(fmt.Sprintf("%s to %q", found, r.Header.Get("Location")), cure)
	case status == http.StatusForbidden:
		return fail(found, "does the project, or what stands before it, block this machine's address (the IP filter), or requests without a User-Agent?")
	case status >= 500:
		return fail(found, "are Authgear's PostgreSQL and Redis up?")
	}
	return fail(found, fmt.Sprintf("is AUTHGEAR_ENDPOINT (%s) the project's public origin?", v.Endpoint))
}

func (v *visit) keys(ctx context.Context) finding {
	keys := v.newKeys()
	if err := keys.Refresh(ctx); err != nil {
		return because(err, "does something else than Authgear answer there? Else the project's oauth secret needs an RSA key of 2048 bits or more, with a kid")
	}
	kids, unused := keys.IDs()
	found := fmt.Sprintf("%d for RS256, 2048 bits or more: %s", len(kids), strings.Join(kids[:min(4, len(kids))], ", "))
	if unused > 0 {
		return warn(fmt.Sprintf("%s; %d more of no use here", found, unused), "what those sign does not pass: is the first key of the project's oauth secret an RSA key of 2048 bits or more, with a kid?")
	}
	return pass("%s", found)
}

func (v *visit) newKeys() *resolver.Keys {
	return resolver.NewKeys(v.Endpoint.String(), v.Timeout, func(error) {})
}

// observePrefix learns how Authgear's cookies begin from the one that main sets with
// every answer. Contract §3.4.
func (v *visit) observePrefix(cookies []*http.Cookie) {
	i := slices.IndexFunc(cookies, func(c *http.Cookie) bool { return strings.HasSuffix(c.Name, "csp_nonce") })
	if i >= 0 {
		prefix := strings.TrimSuffix(cookies[i].Name, "csp_nonce")
		v.prefix = &prefix
	}
}

func (v *visit) cookiePrefix(context.Context) finding {
	switch {
	case v.prefix == nil && !v.answered:
		return skipped("could not find out: no answer of Authgear shows the names of its cookies")
	case v.prefix == nil || *v.prefix == v.CookiePrefix:
		return pass("%s%s", v.prefixInWords(), v.reach())
	case *v.prefix == "":
		return fail(fmt.Sprintf("the names of Authgear's cookies do not begin with %q: none of them is found", v.CookiePrefix), "unset AUTHGEAR_COOKIE_PREFIX")
	}
	return fail(fmt.Sprintf("the names of Authgear's cookies begin with %q, not with %q: none of them is found", *v.prefix, v.CookiePrefix),
		"AUTHGEAR_COOKIE_PREFIX="+*v.prefix)
}

func (v *visit) prefixInWords() string {
	if v.CookiePrefix == "" {
		return "the names of Authgear's cookies have no prefix"
	}
	return fmt.Sprintf("the names of Authgear's cookies begin with %q", v.CookiePrefix)
}

// reach says where browsers send the session cookie. Contract §1.2.
func (v *visit) reach() string {
	if v.cleared == "" {
		return ""
	}
	c, err := http.ParseSetCookie(v.cleared)
	switch {
	case err != nil:
		return ""
	case c.Domain == "":
		return fmt.Sprintf("; browsers send its session cookie to %s alone (http.cookie_domain is not set)", v.Endpoint.Hostname())
	}
	return fmt.Sprintf("; browsers send its session cookie to %s and below", c.Domain)
}
