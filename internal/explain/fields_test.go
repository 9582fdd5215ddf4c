package explain

import (
	"strings"
	"testing"
)

func TestWhatAnOperatorPastesIsRead(t *testing.T) {
	for _, tt := range []struct {
		name, text            string
		authorization, cookie string // lines, with | between them
		bad                   bool
	}{
		{"a token alone", " abc\n", "Bearer abc", "", false},
		{"its scheme too", "bearer abc", "bearer abc", "", false},
		{"a token with a colon", "a:b", "Bearer a:b", "", false},
		{"both lines of a request", "Cookie: session=x\r\nauthorization: Bearer abc\r\n", "Bearer abc", "session=x", false},
		{"each line as often as it stands there", "Authorization: a\nAuthorization: b\nCookie: c\nCookie: d", "a|b", "c|d", false},
		{"nothing", "\n\n", "", "", false},
		{"two tokens", "abc\ndef", "", "", true},
		{"a token beside lines", "abc\nCookie: c", "", "", true},
		{"other lines of a request", "GET / HTTP/1.1\nCookie: c", "", "", true},
	} {
		f, err := Read([]byte(tt.text))
		if got := join(f.authorization); (err != nil) != tt.bad || got != tt.authorization || join(f.cookie) != tt.cookie {
			t.Errorf("%s: %q, %q, %v; want %q, %q", tt.name, got, join(f.cookie), err, tt.authorization, tt.cookie)
		}
	}
}

func join(lines [][]byte) string {
	var all []string
	for _, l := range lines {
		all = append(all, string(l))
	}
	return strings.Join(all, "|")
}
