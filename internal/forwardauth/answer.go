package forwardauth

import (
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/valyala/fasthttp"

	"authgear-forward-auth/internal/policy"
	"authgear-forward-auth/resolver"
)

// Names of the fields that tell the application who is asking. Every 200 has
// each of them once, empty where unknown, so that none a client sent survives.
var (
	sessionValid      = []byte("X-Authgear-Session-Valid")
	userID            = []byte("X-Authgear-User-Id")
	userAnonymous     = []byte("X-Authgear-User-Anonymous")
	userVerified      = []byte("X-Authgear-User-Verified")
	userRoles         = []byte("X-Authgear-User-Roles")
	sessionAMR        = []byte("X-Authgear-Session-Amr")
	authenticatedAt   = []byte("X-Authgear-Session-Authenticated-At")
	canReauthenticate = []byte("X-Authgear-User-Can-Reauthenticate")
	clientID          = []byte("X-Authgear-Client-Id")
	scope             = []byte("X-Authgear-Scope")
)

var (
	cacheControl = []byte(fasthttp.HeaderCacheControl)
	noStore      = []byte("no-store")
)

// Status is what a proxy is answered. 200 and not 204: Envoy takes only 200 for a yes.
func Status(o policy.Outcome) int {
	switch o {
	case policy.Allow:
		return fasthttp.StatusOK
	case policy.Challenge:
		return fasthttp.StatusUnauthorized
	case policy.Forbid:
		return fasthttp.StatusForbidden
	case policy.Unavailable:
		return fasthttp.StatusServiceUnavailable
	}
	return fasthttp.StatusInternalServerError
}

// answer tells the proxy of a verdict. It is the only place that does. signIn is where
// a browser is sent that must sign in, or empty: it is challenged.
func answer(ctx *fasthttp.RequestCtx, d Dialect, v policy.Verdict, rule *policy.Rule, s *resolver.Session, signIn string, err error) {
	h := &ctx.Response.Header
	ctx.SetStatusCode(Status(v.Outcome))
	h.SetCanonical(cacheControl, noStore)
	if err != nil {
		setCookie(h, err)
	}
	var code, description string
	switch v.Outcome {
	case policy.Allow:
		if v.Reason == resolver.OK {
			alike.set(h, s)
		} else {
			setIdentity(h, v.Reason, s)
		}
		return
	case policy.Challenge:
		if signIn != "" {
			h.Set(fasthttp.HeaderLocation, signIn)
			if !d.LocationWith401 {
				ctx.SetStatusCode(fasthttp.StatusFound)
				return
			}
		}
		code, description = bearerError(v.Reason)
		h.Set(fasthttp.HeaderWWWAuthenticate, challenge(code, ""))
		if code == "" {
			code = "unauthenticated"
		}
	case policy.Forbid:
		var params string
		code, params, description = insufficient(v.Reason, rule)
		if code != "" {
			h.Set(fasthttp.HeaderWWWAuthenticate, challenge(code, params))
		} else {
			code = "access_denied"
		}
	case policy.Unavailable:
		h.Set(fasthttp.HeaderRetryAfter, "1")
		code, description = "temporarily_unavailable", "It could not be found out who sent the request."
	default:
		code, description = "server_error", "The policy of this route cannot be read."
	}
	if !d.EmptyBodies {
		ctx.SetContentType("application/json")
		fmt.Fprintf(ctx, `{"error":%q,"error_description":%q}`, code, description)
	}
}

// setCookie passes on the line by which Authgear clears a dead session cookie.
func setCookie(h *fasthttp.ResponseHeader, err error) {
	if inv, ok := errors.AsType[*resolver.InvalidError](err); ok && inv.ClearCookie != "" {
		h.Set(fasthttp.HeaderSetCookie, inv.ClearCookie)
	}
}

func setIdentity(h *fasthttp.ResponseHeader, reason resolver.Reason, s *resolver.Session) {
	valid := "true"
	if reason != resolver.OK { // somebody passes as a visitor
		s, valid = &resolver.Session{}, "false"
		if reason == resolver.Visitor {
			valid = ""
		}
	}
	h.SetCanonical(sessionValid, []byte(valid))
	setUser(h, s)
	h.SetCanonical(userAnonymous, []byte(s.Anonymous.String()))
	h.SetCanonical(userVerified, []byte(s.Verified.String()))
	h.SetCanonical(userRoles, []byte(s.Roles))
	h.SetCanonical(sessionAMR, []byte(s.AMR))
	h.SetCanonical(canReauthenticate, []byte(s.CanReauthenticate.String()))
	h.SetCanonical(clientID, []byte(s.ClientID))
	h.SetCanonical(scope, []byte(s.Scope))
}

// setUser sets the fields that differ from user to user.
func setUser(h *fasthttp.ResponseHeader, s *resolver.Session) {
	h.SetCanonical(userID, []byte(s.UserID))
	var at []byte
	if s.AuthenticatedAt != 0 {
		var digits [20]byte
		at = strconv.AppendInt(digits[:0], s.AuthenticatedAt, 10)
	}
	h.SetCanonical(authenticatedAt, at)
}

// challenge is a WWW-Authenticate field. RFC 6750 §3.
func challenge(code, params string) string {
	if code == "" { // no credential: the client is told no error
		return `Bearer realm="authgear"`
	}
	return `Bearer realm="authgear", error="` + code + `"` + params
}

// bearerError returns what the client may learn of a bad credential; the reason
// is for the operator's log. RFC 6750 §3.1.
func bearerError(reason resolver.Reason) (code, description string) {
	switch reason {
	case resolver.NoCredential:
		return "", "Sign in first."
	case resolver.MalformedCredential:
		return "invalid_request", "The credential is malformed."
	}
	return "invalid_token", "The credential is expired, revoked or not accepted here."
}

// insufficient returns what the client may learn of what is missing. RFC 6750
// §3.1, RFC 9470 §3.
func insufficient(reason resolver.Reason, rule *policy.Rule) (code, params, description string) {
	switch reason {
	case resolver.MissingScope:
		return "insufficient_scope", ", scope=" + strconv.Quote(strings.Join(rule.Scopes, " ")), "The token lacks a scope."
	case resolver.MissingRole:
		return "insufficient_scope", "", "The user lacks a role."
	case resolver.SignInTooOld:
		age := int(rule.SignedInWithin.Seconds())
		return "insufficient_user_authentication", ", max_age=" + strconv.Quote(strconv.Itoa(age)), "A more recent sign-in is required."
	}
	return "", "", "The user may not do this."
}
