package main

import (
	"os"
	"strings"
	"testing"
)

func TestAllProblemsWithTheSettingsAreReportedTogether(t *testing.T) {
	for name, value := range map[string]string{
		"AUTHGEAR_ENDPOINT": "myapp.authgear.cloud", "AUTHGEAR_MODE": "fast", "AUTHGEAR_MAX_STALENESS": "30", "AUTHGEAR_TRUSTED_PROXIES": "nginx",
		"AUTHGEAR_CACHE_BYTES": "lots", "AUTHGEAR_CLOCK_SKEW": "1h", "AUTHGEAR_COOKIE_PREFIX": "a=b", "AUTHGEAR_LOG_LEVEL": "loud",
	} {
		t.Setenv(name, value)
	}
	names := []string{"AUTHGEAR_ENDPOINT", "AUTHGEAR_MODE", "AUTHGEAR_MAX_STALENESS", "AUTHGEAR_TRUSTED_PROXIES", "AUTHGEAR_CACHE_BYTES", "AUTHGEAR_CLOCK_SKEW", "AUTHGEAR_COOKIE_PREFIX", "AUTHGEAR_LOG_LEVEL"}
	_, err := load()
	if err == nil {
		t.Fatal("load accepts them all")
	}
	for _, name := range names {
		if n := strings.Count("\n"+err.Error(), "\n"+name+": "); n != 1 {
			t.Errorf("%s is reported %d times in:\n%v", name, n, err)
		}
	}
}

func TestTheEndpointIsRequired(t *testing.T) {
	t.Setenv("AUTHGEAR_ENDPOINT", "")
	if _, err := load(); err == nil || !strings.Contains(err.Error(), "AUTHGEAR_ENDPOINT: is required") {
		t.Errorf("load: %v", err)
	}
}

func TestUnknownSettingsAreWarnedOf(t *testing.T) {
	got := unknownSettings([]string{"AUTHGEAR_MAX_STALENES=1s", "AUTHGEAR_SERVICE_HOST=x", "AUTHGEAR_PORT_80_TCP=x", "AUTHGEAR_MODE=jwt", "HOME=/"})
	if len(got) != 1 || !strings.Contains(got[0], "is AUTHGEAR_MAX_STALENESS meant?") {
		t.Errorf("unknownSettings = %q", got)
	}
}

// The README lists what the code reads, in the same order.
func TestTheREADMEListsTheSettings(t *testing.T) {
	readme, err := os.ReadFile("README.md")
	if err != nil {
		t.Fatal(err)
	}
	at := 0
	for _, name := range settingNames() {
		i := strings.Index(string(readme)[at:], "\n| `"+name+"` |")
		if i < 0 {
			t.Errorf("%s is missing in the README, or out of order", name)
			continue
		}
		at += i + 1
	}
}
