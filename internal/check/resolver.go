package check

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net/http"
	"time"

	"authgear-forward-auth/cache"
	"authgear-forward-auth/resolver"
)

// remote asks the resolver as the service does.
func (v *visit) remote() *resolver.Remote {
	o := resolver.RemoteOptions{Endpoint: v.Endpoint, URL: v.ResolverURL, CookiePrefix: v.CookiePrefix, Timeout: v.Timeout}
	if v.prefix != nil { // a wrong setting is the matter of another step
		o.CookiePrefix = *v.prefix
	}
	return resolver.NewRemote(o)
}

// madeUp is like Authgear's credentials, so that it looks in its stores for them. A
// session cookie that is no good it clears; one of another name it does not see.
// Contract §1.5.
func madeUp() resolver.Credentials {
	alnum := func() string { return (rand.Text() + rand.Text())[:32] }
	return resolver.Credentials{List: []resolver.Credential{
		{Slot: resolver.Bearer, Value: alnum()},
		{Slot: resolver.IDPSession, Value: "00000000-0000-4000-8000-000000000000." + alnum()},
	}}
}

const isItAuthgear = "does something else than Authgear's resolver, such as a gateway, answer at AUTHGEAR_RESOLVER_URL?"

func (v *visit) resolver(ctx context.Context) finding {
	began := time.Now()
	_, err := v.remote().Resolve(ctx, madeUp())
	var worthless *resolver.InvalidError
	var unavailable *resolver.UnavailableError
	switch {
	case err == nil:
		return fail("made-up credentials are taken for those of a user", fmt.Sprintf("what answers at AUTHGEAR_RESOLVER_URL (%s) is not Authgear's resolver: do not start the service", v.ResolverURL))
	case errors.As(err, &unavailable):
		return because(unavailable.Err, isItAuthgear)
	case errors.As(err, &worthless) && worthless.Reason == resolver.SessionInvalid:
		v.answered, v.cleared = true, worthless.ClearCookie
		return pass("it answers as Authgear's does, in %s", time.Since(began).Round(time.Millisecond))
	}
	cure := "do cookies get through to it?"
	if v.prefix == nil {
		cure = fmt.Sprintf("is AUTHGEAR_COOKIE_PREFIX (%q) the project's http.cookie_prefix, and do cookies get through to it?", v.CookiePrefix)
	}
	return fail("it answers 200, but takes no notice of a session cookie", fmt.Sprintf("is AUTHGEAR_RESOLVER_URL (%s) Authgear's resolver? If so, %s", v.ResolverURL, cure))
}

// resolverScheme looks at the cookie that was cleared: it is Secure if the resolver
// takes the question for one by https, and only then can it judge the JWTs of
// an https project. Contract §1.3, §1.5.
func (v *visit) resolverScheme(context.Context) finding {
	c, err := http.ParseSetCookie(v.cleared)
	if err != nil {
		return skipped("could not find out: the Set-Cookie of Authgear's answer is missing")
	}
	seen := "http"
	if c.Secure {
		seen = "https"
	}
	if seen != v.Endpoint.Scheme {
		return fail(fmt.Sprintf("the resolver takes the question for one by %s, and so knows no JWT of an %s project", seen, v.Endpoint.Scheme), cache.SeesAnother)
	}
	return pass("the resolver sees %s, as it must", seen)
}

func (v *visit) noToken() string {
	if v.Token != "" {
		return ""
	}
	if v.Remote {
		return "needs an access token of a user (-token FILE): only with one it shows which host the resolver sees"
	}
	return "needs an access token of a user (-token FILE)"
}

// token looks whether a good access token passes, here and at Authgear.
func (v *visit) token(ctx context.Context) finding {
	c := resolver.Credentials{List: []resolver.Credential{{Slot: resolver.Bearer, Value: v.Token}}}
	isJWT := c.List[0].IsJWT()
	if v.Local && isJWT {
		local := &resolver.JWT{Issuer: v.Endpoint.String(), Audiences: v.Audiences, ClientIDs: v.ClientIDs, Skew: v.ClockSkew, Keys: v.newKeys()}
		session, err := local.Resolve(ctx, c)
		if err != nil {
			return v.noGood("here", err)
		}
		if session.Machine {
			return pass("it is good; it is a machine's, which the resolver knows none of: a user's token shows more")
		}
	}
	if !v.Remote {
		if !isJWT {
			return fail("it is no JWT, and with AUTHGEAR_MODE=jwt nothing else passes", "let the client issue JWT access tokens (in Authgear's portal), or take AUTHGEAR_MODE=hybrid")
		}
		return pass("it is good here; with AUTHGEAR_MODE=jwt nobody else is asked")
	}
	if _, err := v.remote().Resolve(ctx, c); err != nil {
		var worthless *resolver.InvalidError
		if errors.As(err, &worthless) && worthless.Reason == resolver.UnknownToken && isJWT {
			return fail("the resolver does not know it; if it was not revoked, no JWT will pass", cache.SeesAnother)
		}
		return v.noGood("for the resolver", err)
	}
	if v.Local && isJWT {
		return pass("it is good here, and the resolver confirms it")
	}
	return pass("the resolver confirms it")
}

// noGood says why a token does not pass.
func (v *visit) noGood(where string, err error) finding {
	var worthless *resolver.InvalidError
	var unavailable *resolver.UnavailableError
	switch {
	case errors.As(err, &unavailable):
		return because(unavailable.Err, isItAuthgear)
	case errors.As(err, &worthless) && worthless.Reason == resolver.SessionInvalid:
		return fail("Authgear says that its user may not sign in", "take a token of another user")
	}
	return because(fmt.Errorf("it is no good %s: %w", where, err), "take a token that was just issued; if that is no good either, the reason names what to set")
}
