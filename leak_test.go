package main

import (
	"encoding/base64"
	"strings"
	"testing"
)

// leak returns the first part of a secret that stands in the text, as it is or in base64;
// nothing if none does. A part has 16 characters.
func leak(text string, secrets ...string) string {
	const part = 16
	for _, secret := range secrets {
		for _, form := range spellings(secret) {
			for i := 0; i+part <= len(form); i++ {
				if strings.Contains(text, form[i:i+part]) {
					return form[i : i+part]
				}
			}
			if len(form) < part && form != "" && strings.Contains(text, form) {
				return form
			}
		}
	}
	return ""
}

// spellings are a secret as it is, and in base64 at each of the three places where it may
// begin in a longer text, without what depends on the text around it.
func spellings(secret string) []string {
	all := []string{secret}
	for shift := range 3 {
		b := append(make([]byte, shift), secret...)
		for _, e := range []*base64.Encoding{base64.RawStdEncoding, base64.RawURLEncoding} {
			text := e.EncodeToString(b)
			all = append(all, text[min(len(text), 4*((shift+2)/3)):max(0, len(text)-4)])
		}
	}
	return all
}

// credentialsOf returns what is secret in a line of a request: not the names.
func credentialsOf(line string) (secrets []string) {
	_, value, _ := strings.Cut(line, ": ")
	for part := range strings.FieldsFuncSeq(value, func(c rune) bool { return strings.ContainsRune(" ;,.=", c) }) {
		if len(part) >= 16 {
			secrets = append(secrets, part)
		}
	}
	return secrets
}

func TestALeakIsFound(t *testing.T) {
	const secret = "the quick brown fox jumps over"
	for _, tt := range []struct {
		text  string
		found bool
	}{
		{"nothing of it: the quick brown", false},
		{"… quick brown fox jumps …", true},
		{"x" + base64.StdEncoding.EncodeToString([]byte(`{"a":"`+secret+`"}`)), true},
		{base64.StdEncoding.EncodeToString([]byte(`{"ab":"` + secret + `"}`)), true},
		{base64.RawURLEncoding.EncodeToString([]byte(`{"abc":"` + secret + `"}`)), true},
	} {
		if got := leak(tt.text, secret); (got != "") != tt.found {
			t.Errorf("%q: %q is found, want any: %t", tt.text, got, tt.found)
		}
	}
}
