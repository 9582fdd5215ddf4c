package resolver

import (
	"net/textproto"
	"strings"
)

// Cookies are read exactly as Authgear, a net/http server, reads them: of
// several cookies of a name the first well-formed one wins. Another reading
// would file the answer for one cookie under another. The functions below follow
// readCookies of net/http without its allocations; a fuzz test holds the two
// together.

// maxCookies is how many cookies net/http reads; of more it reads none.
const maxCookies = 3000

func tooManyCookies(lines [][]byte) bool {
	n := 0
	for _, line := range lines {
		n += strings.Count(alias(line), ";") + 1
	}
	return n > maxCookies
}

// findCookie returns the value of the first well-formed cookie of that name.
func findCookie(lines [][]byte, name string) (value string, ok bool) {
	for _, l := range lines {
		line := textproto.TrimString(alias(l))
		if !strings.Contains(line, name) { // most have none of a name, which this finds out sooner
			continue
		}
		var part string
		for len(line) > 0 {
			part, line, _ = strings.Cut(line, ";")
			n, v, _ := strings.Cut(textproto.TrimString(part), "=")
			if textproto.TrimString(n) != name {
				continue
			}
			if v, ok := cookieValue(v); ok {
				return v, true
			}
		}
	}
	return "", false
}

// cookieValue strips the quotes around a cookie's value and tells whether the
// rest is well-formed.
func cookieValue(v string) (string, bool) {
	if len(v) > 1 && v[0] == '"' && v[len(v)-1] == '"' {
		v = v[1 : len(v)-1]
	}
	for i := 0; i < len(v); i++ {
		if c := v[i]; c < ' ' || c >= 0x7f || c == '"' || c == ';' || c == '\\' {
			return "", false
		}
	}
	return v, true
}
