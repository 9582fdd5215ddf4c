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
