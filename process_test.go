package main

import (
	"bytes"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"authgear-forward-auth/internal/authgeartest"
	"authgear-forward-auth/internal/proxytest"
)

// result runs a command to its end, which must come by itself.
func result(t *testing.T, cmd *exec.Cmd) (status int, stdout, stderr string) {
	t.Helper()
	var out, diagnosis bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &diagnosis
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	tooLong := time.AfterFunc(30*time.Second, func() { cmd.Process.Kill() })
	defer tooLong.Stop()
	cmd.Wait()
	return cmd.ProcessState.ExitCode(), out.String(), diagnosis.String()
}

// start runs the service with an Authgear, which may be slow to answer.
func start(t *testing.T, settings ...string) (*proxytest.Service, *authgeartest.Server) {
	t.Helper()
	authgear := authgeartest.Start(t, authgeartest.Options{})
	s := proxytest.NewService(t, append([]string{"AUTHGEAR_ENDPOINT=" + authgear.Origin(), "AUTHGEAR_RESOLVER_TIMEOUT=30s"}, settings...)...)
	s.Start()
	return s, authgear
}

// ask sends the question of a proxy; the fields are whole lines.
func ask(t *testing.T, s *proxytest.Service, lines ...string) *http.Response {
	t.Helper()
	text := "GET /nginx HTTP/1.1\r\nHost: auth\r\nConnection: close\r\n"
	for _, line := range lines {
		text += line + "\r\n"
	}
	resp, _ := proxytest.Raw(t, s.Addr, text+"\r\n")
	return resp
}

// operator asks the admin listener.
func operator(t *testing.T, s *proxytest.Service, path string) (status int, body string) {
	t.Helper()
	resp, body := proxytest.Raw(t, s.Admin, "GET "+path+" HTTP/1.1\r\nHost: admin\r\n\r\n")
	return resp.StatusCode, body
}

func TestAllProblemsWithTheSettingsAreReportedTogether(t *testing.T) {
	bad := []string{
		"AUTHGEAR_ENDPOINT=myapp.authgear.cloud", "AUTHGEAR_RESOLVER_URL=resolver", "AUTHGEAR_MODE=fast", "AUTHGEAR_MAX_STALENESS=30",
		"AUTHGEAR_COOKIE_PREFIX=a=b", "AUTHGEAR_ACCESS_TOKEN_COOKIES=a;b", "AUTHGEAR_CLOCK_SKEW=1h", "AUTHGEAR_RESOLVER_TIMEOUT=1ms",
		"AUTHGEAR_CACHE_BYTES=1KiB", "AUTHGEAR_TRUSTED_PROXIES=nginx", "AUTHGEAR_LOG_LEVEL=loud", "AUTHGEAR_LOG_FORMAT=xml", "AUTHGEAR_LOG_DECISIONS=some",
		"AUTHGEAR_LISTEN=4180", "AUTHGEAR_ADMIN_LISTEN=unix:",
		"AUTHGEAR_CONFIRM=never", "AUTHGEAR_OUTAGE_GRACE=-1s", "AUTHGEAR_WEBHOOK_SECRET=canary", "AUTHGEAR_DRAIN_DELAY=2m",
	}
	if status, _, stderr := result(t, proxytest.Command(t, bad, "healthcheck")); status != 1 || !strings.HasPrefix(stderr, "settings:\nAUTHGEAR_ADMIN_LISTEN: ") || strings.Count(stderr, "AUTHGEAR_") > 1 {
		t.Errorf("healthcheck: exit status %d, %s; want what is wrong with AUTHGEAR_ADMIN_LISTEN alone", status, stderr)
	}
	for _, command := range []string{"serve", "explain"} {
		status, stdout, stderr := result(t, proxytest.Command(t, append(bad, "AUTHGEAR_ENDPOIN=x"), command))
		if !strings.Contains(stderr, "AUTHGEAR_ENDPOIN is unknown and has no effect: is AUTHGEAR_ENDPOINT meant?") {
			t.Errorf("%s: the slip is not reported", command)
		}
		if strings.Contains(stderr, "canary") {
			t.Errorf("%s: the secret is told:\n%s", command, stderr)
		}
		if status != 1 || stdout != "" {
			t.Errorf("%s: exit status %d, standard output %q; want 1 and none", command, status, stdout)
		}
		for _, line := range bad {
			name, _, _ := strings.Cut(line, "=")
			if n := strings.Count("\n"+stderr, "\n"+name+": "); n != 1 {
				t.Errorf("%s: %s is reported %d times in:\n%s", command, name, n, stderr)
			}
		}
	}
}

// A setting that is meant to keep somebody out must not be without effect.
func TestModeResolverTakesNoSettingOfTokens(t *testing.T) {
	for _, setting := range []string{"AUTHGEAR_AUDIENCES=https://api.example.com", "AUTHGEAR_CLIENT_IDS=spa"} {
		name, _, _ := strings.Cut(setting, "=")
		status, _, stderr := result(t, proxytest.Command(t, []string{"AUTHGEAR_ENDPOINT=http://127.0.0.1:1", "AUTHGEAR_MODE=resolver", setting}))
		if status != 1 || !strings.Contains(stderr, name+": has no effect with AUTHGEAR_MODE=resolver") {
			t.Errorf("%s: exit status %d: %s", setting, status, stderr)
		}
	}
}

func TestTwoSecretsMayStandOnTwoLines(t *testing.T) {
	for _, text := range []string{"0123456789abcdef\r\nfedcba9876543210\n", "0123456789abcdef,\nfedcba9876543210\n", "0123456789abcdef\n\nfedcba9876543210", " 0123456789abcdef , fedcba9876543210 "} {
		var s secrets
		if err := s.UnmarshalText([]byte(text)); err != nil || !slices.Equal(s, []string{"0123456789abcdef", "fedcba9876543210"}) {
			t.Errorf("%q: %q, %v", text, s, err)
		}
	}
	if err := new(secrets).UnmarshalText([]byte(", \n")); err == nil {
		t.Error("no secret at all is taken")
	}
	var s secrets
	if err := s.UnmarshalText([]byte("a secret with spaces in it")); err != nil || len(s) != 1 {
		t.Errorf("one secret with spaces: %q, %v", s, err)
	}
}

func TestTheSecretMayBeInAFile(t *testing.T) {
	file := filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(file, []byte("0123456789abcdef-canary\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	s, _ := start(t, "AUTHGEAR_WEBHOOK_SECRET_FILE="+file)
	hook := "POST /hooks/authgear HTTP/1.1\r\nHost: auth\r\nContent-Length: 2\r\n\r\n{}"
	if resp, _ := proxytest.Raw(t, s.Addr, hook); resp.StatusCode != 401 {
		t.Errorf("an unsigned event: status %d, want 401", resp.StatusCode)
	}
	if strings.Contains(s.Log(), "canary") {
		t.Errorf("the log tells the secret: %s", s.Log())
	}
	off, _ := start(t)
	if resp, _ := proxytest.Raw(t, off.Addr, hook); resp.StatusCode != 404 {
		t.Errorf("without a secret: status %d, want 404", resp.StatusCode)
	}
	for name, settings := range map[string][]string{
		"both":          {"AUTHGEAR_WEBHOOK_SECRET_FILE=" + file, "AUTHGEAR_WEBHOOK_SECRET=0123456789abcdef"},
		"no such file":  {"AUTHGEAR_WEBHOOK_SECRET_FILE=/none"},
		"three of them": {"AUTHGEAR_WEBHOOK_SECRET=0123456789abcdef,0123456789abcdef,0123456789abcdef"},
	} {
		if status, _, stderr := result(t, proxytest.Command(t, append(settings, "AUTHGEAR_ENDPOINT=http://127.0.0.1:1"))); status != 1 || !strings.Contains(stderr, "AUTHGEAR_WEBHOOK_SECRET") {
			t.Errorf("%s: exit status %d: %s", name, status, stderr)
		}
	}
}

func TestUnknownSettingsAreWarnedOf(t *testing.T) {
	s, _ := start(t, "AUTHGEAR_MAX_STALENES=1s", "AUTHGEAR_SERVICE_HOST=10.0.0.1", "AUTHGEAR_SERVICE_PORT=80", "AUTHGEAR_SERVICE_PORT_HTTP=80",
		"AUTHGEAR_PORT=tcp://10.0.0.1:80", "AUTHGEAR_PORT_80_TCP_ADDR=10.0.0.1",
		"AUTHGEAR_FORWARD_AUTH_SERVICE_HOST=10.0.0.1", "AUTHGEAR_FORWARD_AUTH_SERVICE_PORT_HTTP=80", "AUTHGEAR_FORWARD_AUTH_PORT=tcp://10.0.0.1:80",
		"AUTHGEAR_FORWARD_AUTH_PORT_80_TCP=tcp://10.0.0.1:80", "AUTHGEAR_FORWARD_AUTH_PORT_80_TCP_PORT=80", "AUTHGEAR_FORWARD_AUTH_PORT_80_TCP_PROTO=tcp")
	log := s.Log()
	if !strings.Contains(log, "AUTHGEAR_MAX_STALENES is unknown and has no effect: is AUTHGEAR_MAX_STALENESS meant?") {
		t.Errorf("no warning: %s", log)
	}
	if n := strings.Count(log, "is unknown"); n != 1 {
		t.Errorf("%d warnings, want 1: what Kubernetes sets is no mistake", n)
	}
}

func TestTheServiceStartsWhileAuthgearIsAway(t *testing.T) {
	t.Parallel()
	addr := proxytest.FreeAddr(t)
	authgear := authgeartest.New(authgeartest.Options{Origin: "http://" + addr})
	token := "Authorization: Bearer " + authgear.JWT(authgear.AddUser(authgeartest.User{ID: "ada"}))
	s := proxytest.NewService(t, "AUTHGEAR_ENDPOINT="+authgear.Origin())
	s.Start()

	if status, _ := operator(t, s, "/healthz"); status != 200 {
		t.Errorf("/healthz: status %d, want 200", status)
	}
	if status, body := operator(t, s, "/readyz"); status != 503 || body != "no keys yet from "+authgear.Origin()+": is it reachable from here?\n" {
		t.Errorf("/readyz: status %d, %q; want 503 and what is missing", status, body)
	}
	if resp := ask(t, s, token); resp.StatusCode != 503 {
		t.Errorf("a JWT: status %d, want 503", resp.StatusCode)
	}

	l, err := net.Listen("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	server := &http.Server{Handler: authgear}
	go server.Serve(l)
	t.Cleanup(func() { server.Close() })
	proxytest.Eventually(t, "the service is ready", func() bool {
		status, _ := operator(t, s, "/readyz")
		return status == 200
	})
	if resp := ask(t, s, token); resp.StatusCode != 200 {
		t.Errorf("a JWT: status %d, want 200", resp.StatusCode)
	}
}

func TestTheModeSaysWhoIsAsked(t *testing.T) {
	for _, tt := range []struct {
		mode             string
		jwt, jwtCalls    int // status, and questions to the resolver
		opaque, opqCalls int
		revoked          int // a JWT of a session that has ended, seen for the first time
		goneCalls        int
		keyFetches       int
	}{
		{mode: "hybrid", jwt: 200, jwtCalls: 1, opaque: 200, opqCalls: 1, revoked: 200, goneCalls: 2, keyFetches: 1},
		{mode: "jwt", jwt: 200, jwtCalls: 0, opaque: 401, opqCalls: 0, revoked: 200, keyFetches: 1},
		{mode: "resolver", jwt: 200, jwtCalls: 1, opaque: 200, opqCalls: 1, revoked: 401, goneCalls: 1, keyFetches: 0},
	} {
		t.Run(tt.mode, func(t *testing.T) {
			s, authgear := start(t, "AUTHGEAR_MODE="+tt.mode)
			ada := authgear.AddUser(authgeartest.User{ID: "ada"})
			gone := authgear.JWT(ada)
			authgear.Revoke(gone)
			expect := func(what, token string, status, calls int) {
				before := authgear.ResolverCalls()
				if resp := ask(t, s, "Authorization: Bearer "+token); resp.StatusCode != status {
					t.Errorf("%s: status %d, want %d", what, resp.StatusCode, status)
				}
				proxytest.Eventually(t, fmt.Sprintf("%s: %d questions to the resolver", what, calls), func() bool { return authgear.ResolverCalls()-before == calls })
			}
			expect("a JWT", authgear.JWT(ada), tt.jwt, tt.jwtCalls)
			expect("an opaque token", authgear.OpaqueToken(ada), tt.opaque, tt.opqCalls)
			expect("a JWT of a session that has ended", gone, tt.revoked, tt.goneCalls)
			if n := authgear.KeyFetches(); n != tt.keyFetches {
				t.Errorf("the keys were fetched %d times, want %d", n, tt.keyFetches)
			}
		})
	}
}

func TestBothListenersMayBeUnixSockets(t *testing.T) {
	dir := t.TempDir()
	s, authgear := start(t, "AUTHGEAR_LISTEN=unix:"+dir+"/auth.sock", "AUTHGEAR_ADMIN_LISTEN=unix:"+dir+"/admin.sock")
	token := "Authorization: Bearer " + authgear.JWT(authgear.AddUser(authgeartest.User{ID: "ada"}))
	if resp := ask(t, s, token); resp.StatusCode != 200 || resp.Header.Get("X-Authgear-User-Id") != "ada" {
		t.Errorf("a JWT: status %d, user %q", resp.StatusCode, resp.Header.Get("X-Authgear-User-Id"))
	}
	if status, _, stderr := result(t, s.Command("healthcheck")); status != 0 {
		t.Errorf("healthcheck: exit status %d: %s", status, stderr)
	}
	if info, err := os.Stat(dir + "/auth.sock"); err != nil || info.Mode() != fs.ModeSocket|0o666 {
		t.Errorf("the socket: %v, %v, want one that every proxy may use", info, err)
	}
	if status, _, stderr := result(t, s.Command()); status != 1 || !strings.Contains(stderr, "AUTHGEAR_LISTEN: another process serves "+dir+"/auth.sock") {
		t.Errorf("a second service: exit status %d: %s", status, stderr)
	}
	if resp := ask(t, s, token); resp.StatusCode != 200 {
		t.Errorf("after that: status %d, want 200", resp.StatusCode)
	}
	s.Stop()
	if left, _ := filepath.Glob(dir + "/*"); len(left) > 0 {
		t.Errorf("%q are left", left)
	}
}

func TestASocketThatADeadProcessLeftIsReplaced(t *testing.T) {
	path := t.TempDir() + "/auth.sock"
	s, _ := start(t, "AUTHGEAR_LISTEN=unix:"+path)
	s.Signal(syscall.SIGKILL)
	s.Wait()
	if info, err := os.Stat(path); err != nil || info.Mode().Type() != fs.ModeSocket {
		t.Fatalf("the dead process left %v, %v, want a socket", info, err)
	}
	s.Start()
	if resp := ask(t, s); resp.StatusCode != 401 {
		t.Errorf("status %d, want 401", resp.StatusCode)
	}
}

func TestWhereItCannotListenTheErrorNamesTheCure(t *testing.T) {
	dir := t.TempDir()
	used := httptest.NewServer(nil)
	defer used.Close()
	for at, want := range map[string]string{
		"unix:" + dir + "/none/auth.sock":              "make the directory of the socket, or choose another AUTHGEAR_LISTEN",
		"unix:" + dir + "/" + strings.Repeat("a", 100): "AUTHGEAR_LISTEN: must have a path of 107 bytes at most",
		"unix:@abc":                             "AUTHGEAR_LISTEN: must be like 127.0.0.1:4180, :4180 or unix:/path/to.sock",
		"unix:go.mod":                           "move that file away, or choose another AUTHGEAR_LISTEN",
		"127.0.0.1:4181":                        "AUTHGEAR_ADMIN_LISTEN: must be another address than that of AUTHGEAR_LISTEN",
		"192.0.2.1:4180":                        "AUTHGEAR_LISTEN must be an address of this machine",
		strings.TrimPrefix(used.URL, "http://"): "End that one, or choose another AUTHGEAR_LISTEN",
	} {
		status, _, stderr := result(t, proxytest.Command(t, []string{"AUTHGEAR_ENDPOINT=http://127.0.0.1:1", "AUTHGEAR_LISTEN=" + at}))
		if status != 1 || !strings.Contains(stderr, want) {
			t.Errorf("%s: exit status %d, want %q: %s", at, status, want, stderr)
		}
	}
}

func TestAFileThatIsNoSocketStays(t *testing.T) {
	path := t.TempDir() + "/auth.sock"
	if err := os.WriteFile(path, []byte("precious"), 0o600); err != nil {
		t.Fatal(err)
	}
	settings := []string{"AUTHGEAR_ENDPOINT=http://127.0.0.1:1", "AUTHGEAR_LISTEN=unix:" + path}
	if status, _, stderr := result(t, proxytest.Command(t, settings)); status != 1 || !strings.Contains(stderr, "AUTHGEAR_LISTEN: ") {
		t.Errorf("exit status %d: %s", status, stderr)
	}
	if b, err := os.ReadFile(path); string(b) != "precious" {
		t.Errorf("the file now holds %q, %v", b, err)
	}
}

func TestHealthcheck(t *testing.T) {
	s, _ := start(t)
	if status, stdout, stderr := result(t, s.Command("healthcheck")); status != 0 || stdout+stderr != "" {
		t.Errorf("alive: exit status %d, %q", status, stdout+stderr)
	}
	broken := s.Command("healthcheck")
	broken.Env = append(broken.Env, "AUTHGEAR_WEBHOOK_SECRET_FILE=/dev/null", "AUTHGEAR_MODE=fast")
	if status, stdout, stderr := result(t, broken); status != 0 || stdout+stderr != "" {
		t.Errorf("alive, and would not start again: exit status %d, %q", status, stdout+stderr)
	}
	s.Stop()
	if status, _, stderr := result(t, s.Command("healthcheck")); status != 1 || !strings.Contains(stderr, s.Admin+" (AUTHGEAR_ADMIN_LISTEN)") {
		t.Errorf("dead: exit status %d, %q", status, stderr)
	}
}

func TestAnotherProcessThatAnswersIsNotHealthy(t *testing.T) {
	other := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "hello") }))
	defer other.Close()
	s := proxytest.NewService(t, "AUTHGEAR_ENDPOINT=http://127.0.0.1:1", "AUTHGEAR_ADMIN_LISTEN="+strings.TrimPrefix(other.URL, "http://"))
	if status, _, stderr := result(t, s.Command("healthcheck")); status != 1 || !strings.Contains(stderr, "is AUTHGEAR_ADMIN_LISTEN right") {
		t.Errorf("exit status %d: %s", status, stderr)
	}
}

func TestCommands(t *testing.T) {
	for _, tt := range []struct {
		args           []string
		status         int
		stdout, stderr string
	}{
		{[]string{"version"}, 0, version + "\n", ""},
		{[]string{"--version"}, 0, version + "\n", ""},
		{[]string{"-version"}, 0, version + "\n", ""},
		{[]string{"help"}, 0, usage, ""},
		{[]string{"--help"}, 0, usage, ""},
		{[]string{"-help"}, 0, usage, ""},
		{[]string{"-h"}, 0, usage, ""},
		{[]string{"serve", "--help"}, 1, "", "serve takes no arguments\n\n" + usage},
		{[]string{"serve", "-listen", ":1"}, 1, "", "serve takes no arguments\n\n" + usage},
		{[]string{"healthcheck", "-h"}, 1, "", "healthcheck takes no arguments\n\n" + usage},
		{[]string{"version", "x"}, 1, "", "version takes no arguments\n\n" + usage},
		{[]string{"--help", "serve"}, 1, "", "--help takes no arguments\n\n" + usage},
		{[]string{"sevre"}, 1, "", "unknown command \"sevre\"\n\n" + usage},
	} {
		status, stdout, stderr := result(t, proxytest.Command(t, nil, tt.args...))
		if status != tt.status || stdout != tt.stdout || strings.TrimSuffix(stderr, "\n") != tt.stderr {
			t.Errorf("%q: exit status %d, %q, %q; want %d, %q, %q", tt.args, status, stdout, stderr, tt.status, tt.stdout, tt.stderr)
		}
	}
}
