// Package proxytest has the stories that every proxy must pass with the
// configuration that we ship for it, and what they are played with: the service
// as a process of its own, an application, and a client that forges. A proxy's
// end-to-end test makes a [Stand] and calls [Run].
package proxytest

import (
	"encoding/json"
	"io"
	"net/http"
	"strings"
	"testing"

	"authgear-forward-auth/internal/authgeartest"
)

// A Stand is a proxy in front of an [Upstream], with the service and an
// Authgear. Everything below / is for users, below /admin/ for those with the role
// admin, and below /public/ for visitors as well.
type Stand struct {
	URL      string // of the proxy
	Authgear *authgeartest.Server
	Service  *Service // started, with AUTHGEAR_LOG_DECISIONS=all

	// Away is the status that the proxy answers while the service is away.
	Away int
	// CleansPaths says that the application does not see a path as it was
	// sent, but as the proxy reads it.
	CleansPaths bool
	// RefusesEncodedSlash says that the proxy answers 400 to a path with %2f, %5c or \.
	RefusesEncodedSlash bool
	// AddsSlash says that the proxy answers 301 to /admin and not what stands
	// behind it.
	AddsSlash bool
	// PassesUnknown says that X-Authgear-* fields of which the service knows
	// nothing reach the application: the proxy removes fields by their whole
	// name alone.
	PassesUnknown bool
	// PassesTrailers says that what follows a chunked body, as fields do, reaches
	// the application: it must not take trailers for fields.
	PassesTrailers bool
}

// A story is what every proxy must do alike, but for what it says of itself.
type story struct {
	name  string
	play  func(*testing.T, *Stand)
	found func(*Stand) string // if it passed; nil is ok
}

var stories = []story{
	{"no credential is challenged", noCredential, nil},
	{"a JWT passes and the application learns who it is", aJWT, nil},
	{"an opaque token passes", anOpaqueToken, nil},
	{"a session cookie passes, behind a planted one", aSessionCookie, nil},
	{"of several Cookie lines all are read", cookieLines, nil},
	{"an expired token is challenged", anExpiredToken, nil},
	{"two Authorization lines never pass", twoAuthorizationLines, nil},
	{"a role opens its route and nobody else's", aRole, (*Stand).encodedSlash},
	{"what is open to visitors is open only as it was sent", openAsSent, nil},
	{"a target that is neither a path nor an http URL is refused", noPath, nil},
	{"no forged field reaches the application", forgedFields, nil},
	{"no malformed field reaches the application", malformedFields, nil},
	{"Connection takes no identity away", connectionTokens, nil},
	{"an X-Authgear field of which the service knows nothing", unknownField, (*Stand).unknown},
	{"a forged trailer is no field", forgedTrailers, (*Stand).trailers},
	{"no connection becomes one of HTTP/2", http2Upgrade, nil},
	{"what a client asks for is no policy", queries, nil},
	{"a dead session cookie is cleared, with 401 and with 200", aDeadSession, nil},
	{"of what the service says, a 200 tells the client nothing", onlyTheApplicationsFields, nil},
	{"16 KiB of cookies pass", longCookies, nil},
	{"a POST arrives whole", aPost, nil},
	{"a chunked POST arrives whole", aChunkedPost, nil},
	{"HEAD and OPTIONS", headAndOptions, nil},
	{"a compressed answer stays so", compressed, nil},
	{"odd paths reach the application and the log alike", oddPaths, (*Stand).paths},
	{"a strange Host is no outage", strangeHosts, nil},
	{"a malformed request is no outage", malformedRequests, nil},
	{"what a client claims of its request is not believed", claims, nil},
	{"no field tells the application another path", onePath, nil},
	{"a WebSocket opens for a user alone", aWebSocket, nil},
	{"the doctor finds nothing", theDoctor, nil},
	{"the application's own errors stay", ownErrors, nil},
	{"while Authgear is down nobody is signed out", authgearIsDown, nil},
	{"without the service nobody passes and nobody is signed out", serviceIsAway, (*Stand).away},
	{"after a restart of the service no request fails", restart, nil},
}

// What is played with stands of its own.
const (
	preflights = "with `preflight`, a CORS preflight passes as a visitor, and nothing else"
	signIn     = "with `sign_in`, a page is sent to the sign-in and back, and nothing else"
	overHTTP2  = "the same over HTTP/2"
	grpc       = "a gRPC call passes for a user alone, with its trailer"
	questions  = "the service is asked in the proxy's own words"
	slow       = "while the service hangs nobody passes and nobody is signed out"
	kept       = "a denial does not end the connection to the service"
	rolling    = "of two services one at a time may be restarted"
	event      = "Authgear's event reaches the service"
)

// Run plays the stories.
func Run(t *testing.T, st *Stand) {
	for _, story := range stories {
		t.Run(story.name, func(t *testing.T) {
			story.play(t, st)
			outcome := "ok"
			if story.found != nil {
				outcome = story.found(st)
			}
			Found(t, story.name, outcome)
		})
	}
}

// User adds a user and returns the fields that carry a JWT of theirs.
func (st *Stand) User(u authgeartest.User) []string {
	return Bearer(st.Authgear.JWT(st.Authgear.AddUser(u)))
}

// ada has the role admin.
func (st *Stand) ada() []string {
	return st.User(authgeartest.User{ID: "ada", Roles: []string{"admin", "editor"}, Verified: true, CanReauthenticate: true})
}

// bob has no roles.
func (st *Stand) bob() []string { return st.User(authgeartest.User{ID: "bob"}) }

// Bearer returns the field that carries a token.
func Bearer(token string) []string { return []string{"Authorization", "Bearer " + token} }

// Do asks the proxy; the fields are name and value in turn. A 200 with a body is
// the application's.
func (st *Stand) Do(t testing.TB, method, path string, body io.Reader, fields ...string) (*http.Response, Seen) {
	t.Helper()
	resp, err := st.ask(method, path, body, fields)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	content, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	var s Seen
	if resp.StatusCode == http.StatusOK && method != http.MethodHead {
		s = readSeen(t, content)
	}
	return resp, s
}

func (st *Stand) ask(method, path string, body io.Reader, fields []string) (*http.Response, error) {
	req, err := http.NewRequest(method, st.URL+path, body)
	if err != nil {
		return nil, err
	}
	for i := 0; i < len(fields); i += 2 {
		req.Header[fields[i]] = append(req.Header[fields[i]], fields[i+1])
	}
	return http.DefaultTransport.RoundTrip(req)
}

func readSeen(t testing.TB, content []byte) (s Seen) {
	t.Helper()
	if err := json.Unmarshal(content, &s); err != nil {
		t.Fatalf("the application's answer: %v: %s", err, content)
	}
	return s
}

// Expect asks the proxy and checks the status.
func (st *Stand) Expect(t testing.TB, status int, method, path string, fields ...string) (*http.Response, Seen) {
	t.Helper()
	resp, s := st.Do(t, method, path, nil, fields...)
	if resp.StatusCode != status {
		t.Errorf("%s %s: status %d, want %d", method, path, resp.StatusCode, status)
	}
	return resp, s
}

// Raw asks the proxy for a path just as it stands, and for any text as fields.
func (st *Stand) Raw(t testing.TB, path string, fields ...string) (*http.Response, string) {
	t.Helper()
	addr := strings.TrimPrefix(st.URL, "http://")
	text := "GET " + path + " HTTP/1.1\r\nHost: " + addr + "\r\nConnection: close\r\n"
	for i := 0; i < len(fields); i += 2 {
		text += fields[i] + ": " + fields[i+1] + "\r\n"
	}
	return Raw(t, addr, text+"\r\n")
}
