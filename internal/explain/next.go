package explain

import "authgear-forward-auth/resolver"

// Next returns what to do about each reason. It must not be changed.
func Next() map[resolver.Reason]string { return next }

// next is what to do about each reason.
var next = map[resolver.Reason]string{
	resolver.OK:                  "Nothing: the request passes. If the application still refuses it, look at the X-Authgear-* fields that reach it (the doctor command does).",
	resolver.Visitor:             "Nothing: the route is optional, so the request passes as a visitor's.",
	resolver.NoCredential:        "Send a credential: the request has no Bearer token and no cookie of Authgear. If the browser has the cookie, is it one of this domain, does the proxy hand Authorization and Cookie on, and is AUTHGEAR_COOKIE_PREFIX the project's?",
	resolver.MalformedCredential: "Send one Authorization field with Bearer, a space and the whole token, or Authgear's own cookie as it set it. The failed step says what cannot be read.",
	resolver.UnknownToken:        "Sign in again. Authgear does not know the credential: it ended, was signed out, or belongs to another project. In mode jwt only JWTs pass: turn on JWT access tokens for the client.",
	resolver.Expired:             "Get a new token with the refresh token, as Authgear's SDKs do before each request. If all tokens look expired, is this machine's clock right?",
	resolver.NotYetValid:         "Set the clocks: by this machine's, the token is issued in the future. AUTHGEAR_CLOCK_SKEW is the leeway.",
	resolver.BadSignature:        "Take the token from where it was issued: it was changed on its way, cut, or signed by somebody else with the name of Authgear's key.",
	resolver.UnknownKey:          "Check that the token is of this project. If Authgear's keys were just changed, it passes within some seconds.",
	resolver.WrongAlgorithm:      "Take an access token of Authgear, which signs with RS256. Another one was not issued by it, or is forged.",
	resolver.WrongType:           "Send the access token, not the ID token or another one: its typ is at+jwt and it has the claims of a user.",
	resolver.WrongIssuer:         "Compare AUTHGEAR_ENDPOINT with the token's iss: they must be the same text. A project with a custom domain issues in its name.",
	resolver.WrongAudience:       "Add the token's aud to AUTHGEAR_AUDIENCES, if it is meant for this API.",
	resolver.WrongClient:         "Add the token's client_id to AUTHGEAR_CLIENT_IDS, or to client_id in the route's policy, if that application may come here.",
	resolver.SessionInvalid:      "Sign in again: for Authgear the session is not valid any more, or never was: it ended, was revoked, is of another project, or its user is disabled or deleted (the portal tells).",
	resolver.Revoked:             "Sign in again: the token is good, but Authgear has ended its session (a sign-out, a revoked session, a user who may not sign in).",
	resolver.MachineToken:        "Add machine to the route's policy, if a client that acts for itself may come here.",
	resolver.MissingRole:         "Give the user one of the roles in the portal, or change role in the route's policy. It counts from the next confirmation, or the next token.",
	resolver.MissingScope:        "Let the application ask for the scope when the user signs in. Only JWTs tell their scope: an opaque token or a cookie never has one here.",
	resolver.NotVerified:         "Let the user verify an e-mail address or phone number.",
	resolver.AnonymousUser:       "Let the user sign up: the route takes no anonymous users.",
	resolver.SignInTooOld:        "Let the user sign in again (in OAuth: prompt=login or max_age); signed_in_within in the route's policy says how recently.",
	resolver.BadPolicy:           "Correct the query of the auth path in the proxy's configuration: until then nobody passes on this route.",
	resolver.ResolverUnavailable: "Run the check command: Authgear's resolver did not answer as it should. The failed step says how.",
	resolver.KeysUnavailable:     "Run the check command: the issuer's keys could not be fetched. The failed step says why.",
	resolver.Overloaded:          "Look for a flood of new credentials in the metrics: more questions wait for Authgear than it is asked at a time. Without one, the machine is too busy, or AUTHGEAR_RESOLVER_TIMEOUT too short.",
}
