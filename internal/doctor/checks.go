package doctor

import (
	"crypto/rand"
	"crypto/sha256"
	"fmt"
	"net/http"
	"regexp"
	"slices"
	"strings"

	"authgear-forward-auth/internal/forwardauth"
)

// A check looks for one kind of hole.
type check struct {
	name  string
	needs func(*visit) string // what it lacks to be made, or ""; nil: nothing
	look  func(*visit)
}

func (c check) notMade(v *visit) string {
	if c.needs == nil {
		return ""
	}
	return c.needs(v)
}

// The order matters in one point: what may fill a cache stands last.
var checks = []check{
	{"visitors are denied", visitorsDenied, visitors},
	{"a denial is a 401 with one challenge", visitorIsDenied, denials},
	{"other methods are denied, too", visitorIsDenied, methods},
	{"other spellings of the path are no way in", nil, paths},
	{"the application learns who sent a request", tokenPasses, identity},
	{"forged identity fields do not arrive", arrives, forgedFields},
	{"forged trailers do not arrive", arrives, forgedTrailers},
	{"Connection takes no identity away", tokenPasses, connectionTokens},
	{"only WebSockets are upgraded", arrives, upgrades},
	{"two Authorization lines do not pass", tellsApart, twoAuthorizations},
	{"a client's word about its request is not believed", deniesOrTellsApart, claims},
	{"no field tells the application another path", arrives, otherPaths},
	{"the client's query is no policy", deniesOrTellsApart, queries},
	{"a POST of 1 MB arrives whole", arrives, longPost},
	{"a verdict is kept for nobody else", tellsApart, keptVerdicts},
	{"a page is kept for nobody else", arrives, keptPages},
}

// What a check may need.

func visitorsDenied(v *visit) string {
	if v.Optional {
		return "visitors are welcome (-optional)"
	}
	return ""
}

func visitorIsDenied(v *visit) string {
	if v.visitorPasses {
		return "visitors pass"
	}
	return ""
}

func arrives(v *visit) string {
	if v.tokenPasses || v.visitorPasses {
		return ""
	}
	return needsToken
}

func tellsApart(v *visit) string {
	switch {
	case v.tellsApart():
		return ""
	case v.tokenPasses:
		return "everybody passes, and the application learns no X-Authgear-User-Id"
	}
	return needsToken
}

func deniesOrTellsApart(v *visit) string {
	if !v.visitorPasses {
		return ""
	}
	return tellsApart(v)
}

func tokenPasses(v *visit) string {
	if v.tokenPasses {
		return ""
	}
	return needsToken
}

// needsToken is what is lacking where no token was given; one that does not pass ends the
// examination.
const needsToken = "needs a good access token (-token FILE)"

// visitors checks that nobody passes without a good credential.
func visitors(v *visit) {
	for _, s := range []sender{
		{"no credential", nil},
		{"a bad token", []string{"Authorization", "Bearer doctor"}},
		{"a token that looks like a JWT", []string{"Authorization", "Bearer eyJhbGciOiJub25lIn0.eyJzdWIiOiJkb2N0b3IifQ."}},
		{"another scheme", []string{"Authorization", "Basic ZG9jdG9yOmRvY3Rvcg=="}},
		{"an empty session cookie", []string{"Cookie", v.CookiePrefix + "session="}},
		{"a bad session cookie", []string{"Cookie", v.CookiePrefix + "session=doctor.doctor"}},
		{"forged identity fields", forge(spell("-"))},
	} {
		if a := v.send(request{fields: s.fields}); len(a.arrived) > 0 {
			v.find(visitorsPass, "%s: it arrived", s.name)
		}
	}
}

// keeping matches a Cache-Control by which a cache may keep a 401.
var keeping = regexp.MustCompile(`(?i)\bpublic\b|\bs-maxage=|\bmax-age=0*[1-9]`)

func denials(v *visit) {
	for _, s := range []sender{{"no credential", nil}, {"a bad token", []string{"Authorization", "Bearer doctor"}}} {
		a := v.send(request{fields: s.fields})
		if a.err != nil {
			v.find(unclearDenial, "%s: no answer (%v)", s.name, a.err)
			continue
		}
		if a.status != http.StatusUnauthorized {
			v.find(unclearDenial, "%s: the answer is %d", s.name, a.status)
		} else if n := len(a.header.Values("WWW-Authenticate")); n != 1 {
			v.find(challengeNotOnce, "%s: it is there %d times", s.name, n)
		}
		if keeping.MatchString(strings.Join(a.header.Values("Cache-Control"), ",")) {
			v.find(keptDenial, "%s: Cache-Control of the %d lets caches keep it", s.name, a.status)
		}
	}
	if v.tokenPasses {
		denied, fresh := v.with(random()), v.with(random())
		v.send(request{target: denied})
		a := v.send(request{target: denied, fields: v.good()})
		if len(a.arrived) == 0 && len(v.send(request{target: fresh, fields: v.good()}).arrived) > 0 {
			v.find(keptDenial, "a good token, where a visitor had been denied: the answer is %d", a.status)
		}
	}
}

// methods sends none that could change something, should another application be
// behind it: an unknown one stands for those.
func methods(v *visit) {
	for _, method := range []string{"HEAD", "OPTIONS", "TRACE", "DOCTOR"} {
		if a := v.send(request{method: method}); v.gained(a) != "" {
			v.find(methodEvades, "%s without a credential: %s", method, v.gained(a))
		}
	}
	preflight := []string{"Origin", "https://doctor.invalid", "Access-Control-Request-Method", "DELETE"}
	for _, method := range []string{"GET", "DOCTOR"} {
		if a := v.send(request{method: method, fields: preflight}); v.gained(a) != "" {
			v.find(methodEvades, "%s with the fields of a CORS preflight, without a credential: %s", method, v.gained(a))
		}
	}
	if a := v.send(request{method: "OPTIONS", fields: preflight}); v.gained(a) == "" {
		return
	}
	v.find(preflightPasses, "OPTIONS with Origin and Access-Control-Request-Method")
	for _, name := range forwardauth.Overrides {
		a := v.send(request{method: "OPTIONS", fields: append([]string{name, "DELETE"}, preflight...)})
		if v.gained(a) != "" && a.has(name, "DELETE") {
			v.find(methodEvades, "a CORS preflight with %s: DELETE, without a credential: %s", name, v.gained(a))
		}
	}
}

// paths sends paths that an application may read as that of the URL.
func paths(v *visit) {
	for _, path := range spellPath(v.URL.EscapedPath()) {
		target := path
		if v.URL.RawQuery != "" {
			target += "?" + v.URL.RawQuery
		}
		a := v.send(request{target: target, fields: forge(spell("-"))})
		if len(a.arrived) > 0 && !v.Optional && !v.visitorPasses {
			v.find(pathEvades, "%s without a credential: it arrived", path)
		} else if names := forged(a.arrived, "-"); len(names) > 0 && !v.forgesAt("") {
			v.find(pathEvades, "%s: forged fields arrived: %s", path, few(names))
		}
	}
}

// forgesAt tells whether forged fields arrive there anyway.
func (v *visit) forgesAt(target string) bool {
	return len(forged(v.send(request{target: target, fields: forge(spell("-"))}).arrived, "-")) > 0
}

func spellPath(path string) (list []string) {
	if path == "" {
		path = "/"
	}
	tail := strings.TrimPrefix(path, "/")
	list = []string{
		"//" + tail, "/./" + tail, "/%2e/" + tail, "/doctor/../" + tail, "/doctor/%2e%2e/" + tail, "/doctor/..;/" + tail, "/doctor%2f..%2f" + tail,
		"/doctor/%%5cdoctor/../../" + tail,
		"/;doctor/" + tail, path + "/", path + "/.", path + "%2f", path + ";doctor=1", path + "%20", path + ".json", path + "%00", "doctor:http://doctor" + path,
	}
	if tail != "" && tail[0] != '%' {
		list = append(list, fmt.Sprintf("/%%%02x%s", tail[0], tail[1:]), "/"+strings.ToUpper(tail), "/"+strings.ToUpper(tail[:1])+tail[1:])
	}
	return slices.DeleteFunc(list, func(p string) bool { return p == path })
}

func upgrades(v *visit) {
	for _, s := range v.senders() {
		for _, protocol := range []string{"h2c", "H2C", "websocket, h2c", "h2c, websocket", "doctor/1, h2c", "doctor/1", "h2c; websocket", "websocket; h2c"} {
			fields := []string{"Connection", "Upgrade, HTTP2-Settings", "HTTP2-Settings", "AAMAAABkAAQAAP__"}
			for line := range strings.SplitSeq(protocol, "; ") {
				fields = append(fields, "Upgrade", line)
			}
			a := v.send(request{fields: append(fields, s.fields...)})
			switch {
			case !a.has("Connection", "upgrade"):
			case a.has("Upgrade", "h2c"):
				v.find(tunnel, "%s: Upgrade: %s", s.name, protocol)
			case a.has("Upgrade", "doctor/1"):
				v.find(otherProtocol, "%s: Upgrade: %s", s.name, protocol)
			}
		}
	}
}

// has tells whether a field arrived whose value contains that, in any case.
func (a answer) has(name, value string) bool {
	return slices.ContainsFunc(a.arrived, func(x arrival) bool {
		return strings.Contains(strings.ToLower(strings.Join(x.header.Values(name), ",")), strings.ToLower(value))
	})
}

func twoAuthorizations(v *visit) {
	bad := []string{"Authorization", "Bearer doctor"}
	for _, s := range []sender{
		{"a good token, then a bad one", append(v.good(), bad...)},
		{"a bad token, then a good one", append(bad, v.good()...)},
	} {
		if a := v.send(request{fields: s.fields}); v.isUser(a) {
			v.find(twoCredentials, "%s: %s", s.name, v.gained(a))
		}
	}
}

// claims sends what only a proxy may say.
func claims(v *visit) {
	for _, c := range []struct{ name, value string }{
		{"X-Forwarded-Host", "doctor.invalid"}, {"X-Forwarded-Proto", "ftp"}, {"X-Forwarded-Method", "OPTIONS"},
		{"X-Forwarded-Uri", "/favicon.ico"}, {"X-Forwarded-For", "127.0.0.1"}, {"X-Real-Ip", "127.0.0.1"},
		{"X-Original-Url", "http://doctor.invalid/favicon.ico"}, {"X-Original-Uri", "/favicon.ico"}, {"X-Original-Method", "OPTIONS"},
		{"X-Rewrite-Url", "/favicon.ico"}, {"X-Http-Method-Override", "OPTIONS"}, {"Forwarded", "for=127.0.0.1;host=doctor.invalid;proto=ftp"},
	} {
		field := []string{c.name, c.value}
		if a := v.send(request{fields: field}); v.gained(a) != "" {
			v.find(claimBelieved, "%s without a credential: %s", c.name, v.gained(a))
		}
		if !v.tellsApart() {
			continue
		}
		a := v.send(request{fields: append(field, v.good()...)})
		if !v.isUser(a) && a.status != http.StatusBadRequest && v.isUser(v.send(request{fields: v.good()})) {
			v.find(claimBelieved, "%s with a good token: that user no more, the answer is %d", c.name, a.status)
		}
	}
}

// pathNames are the fields by which some frameworks take a path for another.
var pathNames = []string{"X-Original-Url", "X-Original-Uri", "X-Rewrite-Url", "X-Forwarded-Uri", "X-Forwarded-Prefix", "X-Script-Name"}

func otherPaths(v *visit) {
	const path = "/doctor-other-path"
	for _, s := range v.senders() {
		for _, name := range pathNames {
			if a := v.send(request{fields: append([]string{name, path}, s.fields...)}); a.has(name, path) {
				v.find(otherPath, "%s: %s", s.name, name)
			}
		}
	}
}

func queries(v *visit) {
	if a := v.send(request{target: v.with("optional")}); v.gained(a) != "" {
		v.find(queryIsPolicy, "?optional without a credential: %s", v.gained(a))
	}
	if !v.tellsApart() {
		return
	}
	for _, query := range []string{"role=doctor", "doctor"} {
		if a := v.send(request{target: v.with(query), fields: v.good()}); !v.isUser(a) && v.isUser(v.send(request{fields: v.good()})) {
			v.find(queryIsPolicy, "?%s with a good token: the answer is %d", query, a.status)
		}
	}
}

// with returns the target with a query added.
func (v *visit) with(query string) string {
	target := v.URL.RequestURI()
	if strings.Contains(target, "?") {
		return target + "&" + query
	}
	return target + "?" + query
}

// bodySize is less than the 1 MiB that nginx allows by itself.
const bodySize = 1_000_000

func longPost(v *visit) {
	senders := v.senders()
	s := senders[len(senders)-1]
	body := strings.Repeat("doctor 90\n", bodySize/10)
	a := v.send(request{method: "POST", fields: s.fields, body: body})
	switch {
	case a.status == http.StatusRequestEntityTooLarge:
		v.find(bodyTooLong, "%s: the answer is 413", s.name)
	case len(a.arrived) == 0 && a.err != nil:
		v.find(bodyLost, "%s: nothing arrived (%v)", s.name, a.err)
	case len(a.arrived) == 0:
		v.find(bodyLost, "%s: nothing arrived, the answer is %d", s.name, a.status)
	case a.arrived[0].method != "POST" || a.arrived[0].sum != sha256.Sum256([]byte(body)):
		v.find(bodyLost, "%s: %s with %d of %d bytes arrived, or others", s.name, a.arrived[0].method, a.arrived[0].length, bodySize)
	}
}

func random() string { return "doctor" + rand.Text() }
