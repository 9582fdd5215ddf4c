package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestTheEndpointIsRequired(t *testing.T) {
	t.Setenv("AUTHGEAR_ENDPOINT", "")
	if _, err := load(); err == nil || !strings.Contains(err.Error(), "AUTHGEAR_ENDPOINT: is required") {
		t.Errorf("load: %v", err)
	}
}

// A line's end, as secrets of Kubernetes have one by mistake, makes no other fleet.
func TestWhiteSpaceIsNoPartOfASecret(t *testing.T) {
	t.Setenv("AUTHGEAR_ENDPOINT", "https://auth.example.com")
	t.Setenv("AUTHGEAR_AUDIENCES", "https://auth.example.com")
	t.Setenv("AUTHGEAR_REDIS_URL", " redis://127.0.0.1:6379\n")
	t.Setenv("AUTHGEAR_FLEET_SECRET", "0123456789abcdef0123456789abcdef\n")
	set, err := load()
	if err != nil || set.FleetSecret != "0123456789abcdef0123456789abcdef" || set.RedisURL != "redis://127.0.0.1:6379" {
		t.Errorf("%q, %q, %v", set.FleetSecret, set.RedisURL, err)
	}
}

func TestWhiteSpaceIsNoPartOfASetting(t *testing.T) {
	for name, value := range map[string]string{
		"ENDPOINT": "\ufeffhttps://auth.example.com\r", "AUDIENCES": "one, two", "CLIENT_IDS": " a ,b\n", "ACCESS_TOKEN_COOKIES": "x, y", "MODE": "jwt\r",
		"MAX_STALENESS": " 40s ", "LOG_LEVEL": "warn ", "TRUSTED_PROXIES": "::ffff:10.1.0.0/112, ::ffff:192.0.2.1",
		// Empty is not set.
		"CONFIRM": "", "RESOLVER_URL": "", "CACHE_BYTES": " ", "LISTEN": "", "REDIS_URL": "\n", "TLS_CERT": "",
	} {
		t.Setenv("AUTHGEAR_"+name, value)
	}
	set, err := load()
	if err != nil {
		t.Fatal(err)
	}
	have := fmt.Sprintf("%s %q %q %q %s %s %v %v %s %s %d", set.Endpoint, set.Audiences, set.ClientIDs, set.AccessTokenCookies, set.Mode, set.MaxStaleness, set.LogLevel,
		set.TrustedProxies, set.Confirm, set.Listen, set.CacheBytes)
	want := `https://auth.example.com ["one" "two"] ["a" "b"] ["x" "y"] jwt 40s 2 [10.1.0.0/16 192.0.2.1/32] after :4180 67108864`
	if have != want {
		t.Errorf("the settings are\n%s, want\n%s", have, want)
	}
}

func TestADefaultPortIsNoPartOfTheIssuer(t *testing.T) {
	for value, want := range map[string]string{
		"https://auth.example.com:443": "https://auth.example.com", "http://Auth.example.com:80/": "http://auth.example.com", "https://[::1]:443": "https://[::1]",
		"https://auth.example.com:80": "https://auth.example.com:80", "https://auth.example.com:8443": "https://auth.example.com:8443", "http://[::80]": "http://[::80]",
	} {
		t.Setenv("AUTHGEAR_ENDPOINT", value)
		if set, err := load(); err != nil || set.Endpoint.String() != want || set.ResolverURL.String() != want+"/_resolver/resolve" {
			t.Errorf("%s: %s, %s, %v; want %s", value, set.Endpoint, set.ResolverURL, err, want)
		}
	}
}

func TestASettingThatCannotBe(t *testing.T) {
	empty := filepath.Join(t.TempDir(), "empty")
	if err := os.WriteFile(empty, []byte("\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct{ name, value, want string }{
		{"ENDPOINT", " ", "is required"},
		{"ENDPOINT", `"https://auth.example.com"`, `this begins with "\"https:/"`},
		{"ENDPOINT", "http://auth.example.com/?", "must have no user, query"},
		{"ENDPOINT", "http://auth.example.com:", "must have no port, or one"},
		{"ENDPOINT", "http://auth.example.com:99999", "must have no port, or one"},
		{"RESOLVER_URL", "http://auth.example.com:0/resolve", "must have no port, or one"},
		{"AUDIENCES", ",", `"," has an empty entry`},
		{"CLIENT_IDS", "a,,b", "has an empty entry"},
		{"ACCESS_TOKEN_COOKIES", "a, ", "has an empty entry"},
		{"TRUSTED_PROXIES", "10.0.0.0/8,", "has an empty entry"},
		{"TRUSTED_PROXIES", "", "to believe nobody"},
		{"TRUSTED_PROXIES", "::ffff:127.0.0.0/90", "neither an address nor a range"},
		{"LOG_LEVEL", "42", `not "42"`},
		{"LOG_LEVEL", "fatal", "must be one of [trace debug info warn error disabled]"},
		{"LOG_LEVEL", "panic", "must be one of"},
		{"CACHE_BYTES", "2TiB", `between 1MiB and 1TiB, such as 64MiB, not "2TiB"`},
		{"CACHE_BYTES", "1TiB", "1.0 TiB is more than this machine or container has"},
		{"MAX_STALENESS", "2562047h", "must be between 1s and 24h"},
		{"MAX_STALENESS", "30", `not "30"`},
		{"WEBHOOK_SECRET", " ", "is empty"},
		{"WEBHOOK_SECRET_FILE", empty, "the file " + empty + " is empty"},
		{"REDIS_URL_FILE", empty, "the file " + empty + " is empty"},
	} {
		t.Run(tt.name+"="+tt.value, func(t *testing.T) {
			t.Setenv("AUTHGEAR_ENDPOINT", "https://auth.example.com")
			t.Setenv("AUTHGEAR_"+tt.name, tt.value)
			if _, err := load(); err == nil || strings.Count(err.Error(), "AUTHGEAR_"+tt.name+": ") != 1 || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("%v, want %s", err, tt.want)
			}
		})
	}
}
