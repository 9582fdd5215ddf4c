package main

import (
	"os"
	"path"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"authgear-forward-auth/internal/forwardauth"
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

// Before a fleet nginx has three to ask, of which one may be away; nothing else differs.
func TestTheFleetRunsTheShippedConfiguration(t *testing.T) {
	one := "        server authgear-forward-auth:4180;\n"
	three := ""
	for _, name := range []string{"replica-1", "replica-2", "replica-3"} {
		three += "        server " + name + ":4180 max_fails=0;\n"
	}
	shipped := read(t, "deploy/compose/nginx.conf")
	if strings.Count(shipped, one) != 1 {
		t.Fatalf("deploy/compose/nginx.conf does not have %q once", one)
	}
	expectPage(t, "deploy/compose/fleet.conf", strings.Replace(shipped, one, three, 1))
}

// In the sidecar nginx has a limit of memory, and so a number of workers; nothing else differs.
func TestTheSidecarExampleRunsTheShippedConfiguration(t *testing.T) {
	socket := "unix:/run/authgear-forward-auth/auth.sock"
	status, stdout, stderr := result(t, proxytest.Command(t, nil, "snippet", "nginx", "-service", socket, "-app", "127.0.0.1:8000"))
	auto := regexp.MustCompile(`(?m)^worker_processes auto;.*$`)
	if status != 0 || len(auto.FindAllString(stdout, -1)) != 1 {
		t.Fatalf("the snippet does not say once how many workers there are: status %d %s", status, stderr)
	}
	expectPage(t, "deploy/kubernetes/sidecar-example/nginx.conf", auto.ReplaceAllString(stdout, "worker_processes 2; # auto counts the CPUs of the node, and each has some 2 MiB of the limit"))
	if !strings.Contains(read(t, "deploy/kubernetes/sidecar/kustomization.yaml"), `"`+socket+`"`) {
		t.Errorf("the sidecar does not listen at %s", socket)
	}
}

// A worker takes some 2 MiB before there is any load: they may have a quarter of the limit, whatever the node.
func TestTheSidecarsWorkersHaveRoom(t *testing.T) {
	workers := regexp.MustCompile(`(?m)^worker_processes (\w+);`).FindStringSubmatch(read(t, "deploy/kubernetes/sidecar-example/nginx.conf"))
	limit := regexp.MustCompile(`(?s)- name: nginx\n.*?limits: \{ memory: (\d+)Mi \}`).FindStringSubmatch(read(t, "deploy/kubernetes/sidecar-example/deployment.yaml"))
	if workers == nil || limit == nil {
		t.Fatalf("workers %q, limit %q", workers, limit)
	}
	n, err := strconv.Atoi(workers[1])
	if mi, _ := strconv.Atoi(limit[1]); err != nil || n*2 > mi/4 {
		t.Errorf("%s workers of 2 MiB each, and a limit of %d MiB", workers[1], mi)
	}
}

func TestASnippetSaysThatItAsksWithoutTLS(t *testing.T) {
	status, stdout, stderr := result(t, proxytest.Command(t, []string{"AUTHGEAR_TLS_CERT=cert", "AUTHGEAR_TLS_KEY=key"}, "snippet", "nginx"))
	if status != 0 || stdout == "" || !strings.Contains(stderr, "docs/running.md") {
		t.Errorf("status %d, %d bytes, %q; want docs/running.md to be named", status, len(stdout), stderr)
	}
}

// A slip would print what has another prefix than the project.
func TestUnknownSettingsAreWarnedOfByCommands(t *testing.T) {
	for _, args := range [][]string{{"snippet", "nginx"}, {"explain"}} {
		_, _, stderr := result(t, proxytest.Command(t, []string{"AUTHGEAR_ENDPOINT=http://127.0.0.1:1", "AUTHGEAR_COOKIE_PREFX=my_"}, args...))
		if !strings.Contains(stderr, "is AUTHGEAR_COOKIE_PREFIX meant?") {
			t.Errorf("%q: %q", args, stderr)
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
		{"other addresses in Envoy", "", "envoy -service auth:4180 -app app:80", []string{`address: "auth", port_value: 4180 }`, `address: "app", port_value: 80 }`}},
		{"IPv6 in Envoy", "", "envoy -service [::1]:4180", []string{`address: "::1", port_value: 4180 }`}},
		{"a policy in nginx", "", "nginx -policy role=staff&verified", []string{"/nginx?role=staff&verified;", "/nginx?role=admin;"}},
		{"a policy in Traefik", "", "-policy verified traefik/dynamic.yml", []string{"/traefik?verified\n"}},
		{"a policy in Caddy", "", "caddy -policy verified", []string{`import authgear "verified"`}},
		{"a policy in HAProxy", "", "haproxy -policy verified", []string{"str(?verified)\n    http-request set-var(txn.authgear_policy) str(?optional)"}},
		{"a sign-in in nginx", "", "nginx -sign-in /enter -policy verified", []string{"/nginx?verified&sign_in=/enter;", "/nginx?role=admin&sign_in=/enter;", "\n        location = /enter {", `"~^/enter(\?|$)" 1;`}},
		{"a sign-in in Traefik", "", "traefik -sign-in /enter -policy verified", []string{"/traefik?verified&sign_in=/enter\n", "rule: Path(`/enter`)"}},
		{"a sign-in in Caddy", "", "caddy -sign-in /enter -policy verified", []string{`import authgear "verified&sign_in=/enter"`, "\n\t\t@login vars_regexp {http.request.uri} `^/enter(\\?|$)`\n\t\thandle @login {"}},
		{"a sign-in in HAProxy", "", "haproxy -sign-in /enter -policy verified", []string{"\n    http-request set-var(txn.authgear_policy) str(?verified&sign_in=/enter)", "if { path /enter }"}},
		{"a sign-in below /admin/ in HAProxy", "", "haproxy -sign-in /admin/login", []string{"if admin or ambiguous\n    http-request set-var(txn.authgear_policy) str(?optional) if { path /admin/login }"}},
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

// Where a proxy is told which fields to hand on to the service, the service must see
// what is no preflight.
func TestEveryListHasTheFieldsThatOverrideAMethod(t *testing.T) {
	for file, lists := range map[string]int{
		"traefik/dynamic.yml": 3, "haproxy/auth.lua": 1, "docs/other-proxies.md": 1, "docs/browsers.md": 1, "internal/doctor/problems.go": 1,
	} {
		text := strings.ToLower(read(t, file))
		for _, name := range forwardauth.Overrides {
			if n := len(regexp.MustCompile(`\b`+strings.ToLower(name)+`\b[^-]`).FindAllString(text, -1)); n < lists {
				t.Errorf("%s has %s %d times, want %d at least", file, name, n, lists)
			}
		}
	}
	_, list, _ := strings.Cut(read(t, "traefik/dynamic.yml"), ".authRequestHeaders: ")
	list, _, _ = strings.Cut(list, "\n")
	if cure := "authRequestHeaders: [" + strings.ReplaceAll(list, ",", ", ") + "]"; !strings.Contains(read(t, "internal/doctor/problems.go"), cure) {
		t.Errorf("the doctor does not name the shipped %s", cure)
	}
}

func TestASnippetThatCannotBe(t *testing.T) {
	for _, tt := range []struct{ setting, args, want string }{
		{"", "", "which proxy"},
		{"", "apache", "unknown proxy"},
		{"", "nginx/x.conf", "no file"},
		{"", "nginx -policy role", "takes one value"},
		{"", "nginx -policy role=a;b", "write %3B"},
		{"", "nginx -policy role=\u00e4b", "visible ASCII"},
		{"", "nginx -policy role=a$b", "the character '$' may not stand in a configuration; in a policy write %24\n"},
		{"", "nginx caddy", `"caddy" is too much`},
		{"", "nginx -app a:80 caddy", `"caddy" is too much`},
		{"", "nginx -app app", "-app: must be host:port"},
		{"", "nginx -app http://app:80", "-app: must be host:port"},
		{"", "nginx -app unix:/run/app.sock", "-app: must be host:port"},
		{"", "nginx -app app:http", "-app: must be host:port"},
		{"", "nginx -app :8000", "-app: must be host:port"},
		{"", "nginx -app app/x:80", "-app: must be host:port"},
		{"", "nginx -app app:65536", "-app: must be host:port"},
		{"", "nginx -service http://auth:4180", "-service: must be host:port"},
		{"", "nginx -service unix:auth.sock", "-service: must be host:port or unix:/path"},
		{"", "nginx -service 4180", "-service: must be host:port"},
		{"", "haproxy -service localhost:4179", "let the service listen on another port"},
		{"AUTHGEAR_LISTEN=:4179", "haproxy", "let the service listen on another port"},
		{"", "nginx -app x$y:80", "may not stand"},
		{"", "envoy -policy verified", "no room for a policy"},
		{"", "envoy -sign-in /login", "no room for a policy"},
		{"", "nginx -sign-in login", "sign_in"},
		{"", "nginx -sign-in /login&role=admin", "-sign-in: must be a path"},
		{"", "nginx -sign-in /login%41", "-sign-in: must be a path"},
		{"", "nginx -sign-in /login?x", "sign_in takes one path"},
		{"AUTHGEAR_PROXY_CACHE=10m", "nginx", "AUTHGEAR_PROXY_CACHE: must be 0s, or between"},
		{"AUTHGEAR_LISTEN=unix:/run/a.sock", "traefik", "not ask over a unix socket"},
		{"AUTHGEAR_LISTEN=unix:/run/a.sock", "envoy", "not ask over a unix socket"},
		{"AUTHGEAR_MODE=jwt", "nginx -policy max_staleness=1s", "AUTHGEAR_MODE=jwt"},
		{"AUTHGEAR_MODE=resolver", "nginx -policy client_id=spa", "AUTHGEAR_MODE=resolver"},
		{"AUTHGEAR_MODE=resolver", "nginx -policy scope=openid", "AUTHGEAR_MODE=resolver"},
		{"AUTHGEAR_LISTEN=4180", "nginx", "AUTHGEAR_LISTEN"},
	} {
		status, stdout, stderr := result(t, proxytest.Command(t, []string{tt.setting}, append([]string{"snippet"}, strings.Fields(tt.args)...)...))
		if status != 1 || stdout != "" || !strings.Contains(stderr, tt.want) {
			t.Errorf("%s snippet %s: status %d, %q, %q; want 1 and %q", tt.setting, tt.args, status, stdout, stderr, tt.want)
		}
	}
}
