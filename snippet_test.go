package main

import (
	"os"
	"path"
	"strings"
	"testing"

	"authgear-forward-auth/internal/proxytest"
)

// shipped are the files that lie in the tree :: argument of snippet → file
var shipped = map[string]string{
	"nginx":               "nginx/nginx.conf",
	"caddy":               "caddy/Caddyfile",
	"envoy":               "envoy/envoy.yaml",
	"traefik/traefik.yml": "traefik/traefik.yml",
	"traefik/dynamic.yml": "traefik/dynamic.yml",
	"haproxy/haproxy.cfg": "haproxy/haproxy.cfg",
	"haproxy/auth.lua":    "haproxy/auth.lua",
}

func TestTheSnippetForTheDefaultsIsWhatIsShipped(t *testing.T) {
	for name, file := range shipped {
		status, stdout, stderr := result(t, proxytest.Command(t, nil, "snippet", name))
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if status != 0 || stdout != string(text) {
			t.Errorf("snippet %s is not %s: status %d %s", name, file, status, stderr)
		}
	}
}

// What the containers run is made by the command, too.
func TestTheContainersRunTheShippedConfiguration(t *testing.T) {
	for _, name := range []string{"nginx/nginx.conf", "traefik/traefik.yml", "traefik/dynamic.yml", "caddy/Caddyfile"} {
		status, stdout, stderr := result(t, proxytest.Command(t, nil, "snippet", name, "-service", "authgear-forward-auth:4180", "-app", "app:8000"))
		file := "deploy/compose/" + path.Base(name)
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if status != 0 || stdout != string(text) {
			t.Errorf("%s is not the snippet: status %d %s", file, status, stderr)
		}
	}
}

func TestASnippetHasTheSettingsInForce(t *testing.T) {
	for _, tt := range []struct {
		name, setting, args string
		want                []string
	}{
		{"a port", "AUTHGEAR_LISTEN=:4999", "nginx", []string{"server 127.0.0.1:4999;"}},
		{"every address", "AUTHGEAR_LISTEN=[::]:4999", "haproxy", []string{"==> haproxy/haproxy.cfg <==", "server one 127.0.0.1:4999", "==> haproxy/auth.lua <=="}},
		{"a socket in nginx", "AUTHGEAR_LISTEN=unix:/run/a.sock", "nginx", []string{"server unix:/run/a.sock;"}},
		{"a socket in Caddy", "AUTHGEAR_LISTEN=unix:/run/a.sock", "caddy", []string{"forward_auth unix//run/a.sock {", "reverse_proxy unix//run/a.sock\n"}},
		{"a socket in HAProxy", "AUTHGEAR_LISTEN=unix:/run/a.sock", "haproxy", []string{"server one unix@/run/a.sock"}},
		{"a cookie prefix", "AUTHGEAR_COOKIE_PREFIX=my_", "traefik", []string{"addAuthCookiesToResponse: [my_session]"}},
		{"other addresses", "", "caddy -service auth:4180 -app app:80", []string{"forward_auth auth:4180 {", "reverse_proxy auth:4180\n", "reverse_proxy app:80 {"}},
		{"other addresses in Envoy", "", "envoy -service auth:4180 -app app:80", []string{"address: auth, port_value: 4180 }", "address: app, port_value: 80 }"}},
		{"a policy in nginx", "", "nginx -policy role=staff&verified", []string{"/nginx?role=staff&verified;", "/nginx?role=admin;"}},
		{"a policy in Traefik", "", "-policy verified traefik/dynamic.yml", []string{"/traefik?verified\n"}},
		{"a policy in Caddy", "", "caddy -policy verified", []string{`import authgear "verified"`}},
		{"a policy in HAProxy", "", "haproxy -policy verified", []string{"str(?verified)\n    http-request set-var(txn.authgear_policy) str(?optional)"}},
		{"a sign-in in nginx", "", "nginx -sign-in /enter -policy verified", []string{"/nginx?verified&sign_in=/enter;", "/nginx?role=admin&sign_in=/enter;", "\n        location = /enter {"}},
		{"a sign-in in Traefik", "", "traefik -sign-in /enter -policy verified", []string{"/traefik?verified&sign_in=/enter\n", "rule: Path(`/enter`)"}},
		{"a sign-in in Caddy", "", "caddy -sign-in /enter -policy verified", []string{`import authgear "verified&sign_in=/enter"`, "\n\thandle /enter {"}},
		{"a sign-in in HAProxy", "", "haproxy -sign-in /enter -policy verified", []string{"\n    http-request set-var(txn.authgear_policy) str(?verified&sign_in=/enter)", "if { path /enter }"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			status, stdout, stderr := result(t, proxytest.Command(t, []string{tt.setting}, append([]string{"snippet"}, strings.Fields(tt.args)...)...))
			if status != 0 {
				t.Fatalf("status %d: %s", status, stderr)
			}
			for _, want := range tt.want {
				if !strings.Contains(stdout, want) {
					t.Errorf("there is no %q in\n%s", want, stdout)
				}
			}
		})
	}
}

func TestASnippetThatCannotBe(t *testing.T) {
	for _, tt := range []struct{ setting, args, want string }{
		{"", "", "which proxy"},
		{"", "apache", "unknown proxy"},
		{"", "nginx/x.conf", "no file"},
		{"", "nginx -policy role", "takes one value"},
		{"", "nginx -policy role=a;b", "write %3B"},
		{"", "nginx -app x$y:80", "may not stand"},
		{"", "envoy -policy verified", "no room for a policy"},
		{"", "envoy -sign-in /login", "no room for a policy"},
		{"", "nginx -sign-in login", "sign_in"},
		{"AUTHGEAR_LISTEN=unix:/run/a.sock", "traefik", "not ask over a unix socket"},
		{"AUTHGEAR_LISTEN=unix:/run/a.sock", "envoy", "not ask over a unix socket"},
		{"AUTHGEAR_MODE=jwt", "nginx -policy max_staleness=1s", "AUTHGEAR_MODE=jwt"},
		{"AUTHGEAR_LISTEN=4180", "nginx", "AUTHGEAR_LISTEN"},
	} {
		status, stdout, stderr := result(t, proxytest.Command(t, []string{tt.setting}, append([]string{"snippet"}, strings.Fields(tt.args)...)...))
		if status != 1 || stdout != "" || !strings.Contains(stderr, tt.want) {
			t.Errorf("%s snippet %s: status %d, %q, %q; want 1 and %q", tt.setting, tt.args, status, stdout, stderr, tt.want)
		}
	}
}
