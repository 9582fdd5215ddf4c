package main

import (
	"os"
	"strings"
	"testing"
)

func TestTheEndpointIsRequired(t *testing.T) {
	t.Setenv("AUTHGEAR_ENDPOINT", "")
	if _, err := load(); err == nil || !strings.Contains(err.Error(), "AUTHGEAR_ENDPOINT: is required") {
		t.Errorf("load: %v", err)
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
