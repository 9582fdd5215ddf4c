package proxytest

import (
	"os"
	"path/filepath"
	"testing"
)

// Built returns a proxy that `make test` has built into bin/.
func Built(t testing.TB, name string) string {
	t.Helper()
	path, err := filepath.Abs(filepath.Join("..", "bin", name))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(path); err != nil {
		t.Fatalf("%v: `make bin/%s` builds it", err, name)
	}
	return path
}
