package doctor

import "strings"

// keptVerdicts sends the token in one place beside strange credentials in the
// others, and then those alone.
func keptVerdicts(v *visit) {
	bearer := []string{"Authorization", "Bearer " + random()}
	inCookie := v.cookies(v.Token)
	good := v.good()
	for _, tt := range []struct {
		name        string
		first, then []string
	}{
		{
			"the token in the cookie " + v.CookiePrefix + "app_access_token, then a request without it",
			append(bearer, inCookie...),
			append(bearer, "Cookie", strings.ReplaceAll(inCookie[1], v.Token, "")),
		},
		{"the token in Authorization, then a request without it", good, good[2:]},
		{"the token, then one with another end", good, append([]string{"Authorization", "Bearer " + otherEnd(v.Token)}, good[2:]...)},
	} {
		if !v.isUser(v.send(request{fields: tt.first})) {
			continue // that place is not one for tokens here
		}
		if a := v.send(request{fields: tt.then}); v.isUser(a) {
			v.find(sharedVerdict, "%s: %s", tt.name, v.gained(a))
		}
	}
}

// otherEnd changes what no reader may overlook: the last bits of a character of
// base64 may be without meaning, the one before it never is.
func otherEnd(token string) string {
	b := []byte(token)
	i := max(len(b)-2, 0)
	if b[i] == 'x' {
		b[i] = 'y'
	} else {
		b[i] = 'x'
	}
	return string(b)
}

func keptPages(v *visit) {
	senders := v.senders()
	owner := senders[len(senders)-1]
	for _, kind := range []pageKind{mayBeKept, withCookie} {
		what := map[pageKind]string{mayBeKept: "its page", withCookie: "its page or Set-Cookie"}[kind]
		target := v.with("doctor=" + random())
		v.send(request{target: target, fields: owner.fields, page: kind})
		if v.tokenPasses {
			if v.send(request{target: target, page: kind}).other {
				v.find(sharedPage, "a request %s, then a visitor: the visitor is given %s", owner.name, what)
				continue
			}
			if v.send(request{target: target, fields: v.cookies(v.Token), page: kind}).other {
				v.find(sharedPage, "a request %s, then one with it in a cookie: the latter is given %s", owner.name, what)
				continue
			}
		}
		if v.send(request{target: target, fields: owner.fields, page: kind}).other {
			v.find(keptPage, "the same request %s again: %s comes from the proxy", owner.name, what)
		}
	}
}
