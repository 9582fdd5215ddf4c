package proxytest

import (
	"os"
	"path/filepath"
	"testing"

	"authgear-forward-auth/internal/snippet"
)

// Conf writes a copy of a shipped configuration, edited: each old text gives
// way to the new one behind it. It returns the copy's name. The test fails if an old
// text is not there, since then something else than what we ship would be tested.
func Conf(t testing.TB, file string, oldnew ...string) string {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	edited, err := snippet.Edit(string(text), oldnew...)
	if err != nil {
		t.Fatalf("%s: %v", file, err)
	}
	name := filepath.Join(Dir(t), filepath.Base(file))
	if err := os.WriteFile(name, []byte(edited), 0o644); err != nil {
		t.Fatal(err)
	}
	return name
}

// Dir returns a temporary directory that a proxy which runs as another user may
// enter.
func Dir(t testing.TB) string {
	t.Helper()
	dir := t.TempDir()
	for _, d := range []string{dir, filepath.Dir(dir)} {
		if err := os.Chmod(d, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}
