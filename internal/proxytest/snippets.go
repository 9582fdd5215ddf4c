package proxytest

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"authgear-forward-auth/internal/snippet"
)

// Snippets checks that a proxy can read the configurations which are made for it.
// check returns the command by which the proxy itself says so, of files in that
// directory.
func Snippets(t *testing.T, config snippet.Config, check func(dir string) *exec.Cmd) {
	const service, app = "127.0.0.1:4180", "127.0.0.1:8000"
	for _, s := range []snippet.Setup{
		{Service: service, App: app},
		{Service: service, App: app, Policy: "role=staff&verified", SignIn: "/login"},
		{Service: service, App: app, SignIn: "/admin/login"},
		{Service: "[::1]:4180", App: "[::1]:8000", Policy: "verified"},
		{Service: "unix:/run/auth.sock", App: "localhost:80", CookiePrefix: "my_"},
	} {
		files, err := config.Make(s)
		if err != nil {
			t.Fatalf("%+v: %v", s, err)
		}
		dir := Dir(t)
		for _, f := range files {
			if err := os.WriteFile(filepath.Join(dir, f.Name), []byte(f.Text), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		if out, err := check(dir).CombinedOutput(); err != nil {
			t.Errorf("%+v: %v\n%s", s, err, out)
		}
	}
}
