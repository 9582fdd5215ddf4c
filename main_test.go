package main

import (
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
