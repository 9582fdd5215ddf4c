package main

import (
	"encoding/json"
	"errors"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"

	"authgear-forward-auth/internal/authgeartest"
	"authgear-forward-auth/internal/proxytest"
)

type checkReport struct {
	OK    bool
	Steps []struct{ Step, Status, Found, Cure string }
}

// names are those of the steps that came out so.
func (r checkReport) names(statuses ...string) (list []string) {
	for _, s := range r.Steps {
		if slices.Contains(statuses, s.Status) {
			list = append(list, s.Step)
		}
	}
	return list
}

// runCheck runs the check command twice, for people and for programs. No canary may
// be in what it writes.
func runCheck(t *testing.T, command func(args ...string) *exec.Cmd, stdin string, args ...string) (status int, text string, report checkReport) {
	t.Helper()
	for _, form := range []string{"", "--json"} {
		all := slices.DeleteFunc(append([]string{"check", form}, args...), func(arg string) bool { return arg == "" })
		cmd := command(all...)
		cmd.Stdin = strings.NewReader(stdin)
		code, stdout, stderr := result(t, cmd)
		if strings.Contains(stdout+stderr, "canary") || stdin != "" && strings.Contains(stdout+stderr, stdin) {
			t.Errorf("%q tells a secret:\n%s%s", all, stdout, stderr)
		}
		if form == "" {
			status, text = code, stdout
			continue
		}
		if err := json.Unmarshal([]byte(stdout), &report); err != nil || code != status || report.OK != (code == 0) {
			t.Errorf("%q: exit status %d, %v:\n%s", all, code, err, stdout)
		}
		if want := map[bool]string{true: "", false: "the service would not work, or not for everybody\n"}[code == 0]; stderr != want {
			t.Errorf("%q: standard error %q, want %q", all, stderr, want)
		}
	}
	return status, text, report
}

func TestCheckOfAGoodSetUp(t *testing.T) {
	authgear := authgeartest.Start(t, authgeartest.Options{})
	token := authgear.JWT(authgear.AddUser(authgeartest.User{ID: "ada"}))
	settings := []string{"AUTHGEAR_ENDPOINT=" + authgear.Origin(), "AUTHGEAR_WEBHOOK_SECRET=canary-0123456789", "AUTHGEAR_RESOLVER_TIMEOUT=30s",
		"AUTHGEAR_LISTEN=" + proxytest.FreeAddr(t), "AUTHGEAR_ADMIN_LISTEN=" + proxytest.FreeAddr(t)}
	command := func(args ...string) *exec.Cmd { return proxytest.Command(t, settings, args...) }
	status, text, report := runCheck(t, command, token, "-token", "-")
	if status != 0 || len(report.names("fail", "warn")) > 0 || !slices.Contains(report.names("pass"), "token") {
		t.Errorf("exit status %d:\n%s", status, text)
	}
	if want := "19 steps: 13 passed, no warnings, 0 failed, 6 skipped.\n"; !strings.HasSuffix(text, "\n\n"+want) {
		t.Errorf("the report does not end with %q:\n%s", want, text)
	}
	settings = append(settings, "AUTHGEAR_MAX_STALENES=1s")
	if status, text, report := runCheck(t, command, ""); status != 0 || !slices.Equal(report.names("fail", "warn"), []string{"settings"}) ||
		!strings.Contains(text, "> is AUTHGEAR_MAX_STALENESS meant?") {
		t.Errorf("with an unknown setting: exit status %d:\n%s", status, text)
	}
}

func TestCheckLooksAtRedis(t *testing.T) {
	authgear := authgeartest.Start(t, authgeartest.Options{})
	addr, _ := proxytest.Redis(t, "--requirepass", "canary-of-redis")
	for url, want := range map[string]string{"redis://:canary-of-redis@" + addr: "pass", "redis://:canary-wrong@" + addr: "fail"} {
		settings := []string{"AUTHGEAR_ENDPOINT=" + authgear.Origin(), "AUTHGEAR_REDIS_URL=" + url, "AUTHGEAR_FLEET_SECRET=canary-" + strings.Repeat("0", 32),
			"AUTHGEAR_LISTEN=" + proxytest.FreeAddr(t), "AUTHGEAR_ADMIN_LISTEN=" + proxytest.FreeAddr(t)}
		_, text, report := runCheck(t, func(args ...string) *exec.Cmd { return proxytest.Command(t, settings, args...) }, "")
		if !slices.Contains(report.names(want), "redis") {
			t.Errorf("want %s of redis:\n%s", want, text)
		}
	}
}

// With files that cannot be used the service would not start; with the others, nobody would ask it.
func TestCheckLooksAtTheCertificate(t *testing.T) {
	authgear := authgeartest.Start(t, authgeartest.Options{})
	ca := proxytest.NewCA(t)
	v := &volume{t: t, dir: filepath.Join(t.TempDir(), "tls")}
	settings := []string{"AUTHGEAR_ENDPOINT=" + authgear.Origin(), "AUTHGEAR_TLS_CERT=" + v.dir + "/CERT", "AUTHGEAR_TLS_KEY=" + v.dir + "/KEY",
		"AUTHGEAR_LISTEN=" + proxytest.FreeAddr(t), "AUTHGEAR_ADMIN_LISTEN=" + proxytest.FreeAddr(t)}
	expect := func(step, want, status string) {
		t.Helper()
		_, text, report := runCheck(t, func(args ...string) *exec.Cmd { return proxytest.Command(t, settings, args...) }, "")
		if !slices.Contains(report.names(status), step) || !strings.Contains(strings.Join(strings.Fields(text), " "), want) {
			t.Errorf("want %s of %s, and %q:\n%s", status, step, want, text)
		}
	}
	expect("settings", "AUTHGEAR_TLS_KEY > open", "fail")
	v.put(pair(t, ca))
	expect("tls", "does its renewal work?", "warn")
	for want, change := range unfits {
		cert, key := ca.Sign(t, "the service", change)
		v.put(map[string][]byte{"CERT": cert, "KEY": key})
		expect("tls", want, "fail")
	}
}

func TestCheckBesideTheService(t *testing.T) {
	secret := filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(secret, []byte("canary-0123456789\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	plain, _ := start(t, "AUTHGEAR_WEBHOOK_SECRET_FILE="+secret)
	secure, _, _ := onTLS(t, proxytest.NewCA(t))
	mutual, _, _ := onTLS(t, proxytest.NewCA(t), "CLIENT_CA")
	for i, s := range []*proxytest.Service{plain, secure, mutual} {
		status, text, _ := runCheck(t, s.Command, "")
		if status != 0 || strings.Count(text, "in use by the service itself") != 2 {
			t.Errorf("%d: exit status %d:\n%s", i, status, text)
		}
	}
}

func TestCheckLeavesSocketsAlone(t *testing.T) {
	dir := t.TempDir()
	s, _ := start(t, "AUTHGEAR_LISTEN=unix:"+dir+"/auth.sock", "AUTHGEAR_ADMIN_LISTEN=unix:"+dir+"/admin.sock")
	for _, running := range []bool{true, false} {
		if !running {
			s.Stop()
		}
		if status, text, _ := runCheck(t, s.Command, ""); status != 0 {
			t.Errorf("exit status %d:\n%s", status, text)
		}
		if left, _ := filepath.Glob(dir + "/*"); (len(left) == 2) != running {
			t.Errorf("running: %v, and there is %q", running, left)
		}
	}
}

// What a dead process left is for the service to remove, and of a live one nobody does.
func TestNobodyRemovesASocketThatIsServed(t *testing.T) {
	dir := t.TempDir()
	s := proxytest.NewService(t, "AUTHGEAR_ENDPOINT=http://127.0.0.1:1", "AUTHGEAR_LISTEN=unix:"+dir+"/auth.sock", "AUTHGEAR_ADMIN_LISTEN=unix:"+dir+"/dead.sock")
	dead, err := net.Listen("unix", dir+"/dead.sock")
	if err != nil {
		t.Fatal(err)
	}
	dead.(*net.UnixListener).SetUnlinkOnClose(false)
	dead.Close()
	crowd(t, dir+"/auth.sock")
	_, text, report := runCheck(t, s.Command, "")
	if !slices.Contains(report.names("fail"), "listen") || !slices.Contains(report.names("pass"), "admin_listen") {
		t.Errorf("check says:\n%s", text)
	}
	if status, _, stderr := result(t, s.Command()); status != 1 || !strings.Contains(stderr, "another process serves "+dir+"/auth.sock, and takes no more connections") {
		t.Errorf("a second service: exit status %d: %s", status, stderr)
	}
	if left, _ := filepath.Glob(dir + "/*"); len(left) != 2 {
		t.Errorf("%q are left, want both sockets", left)
	}
}

// crowd makes a socket whose process accepts nothing, and fills its backlog.
func crowd(t *testing.T, path string) {
	t.Helper()
	fd, err := syscall.Socket(syscall.AF_UNIX, syscall.SOCK_STREAM, 0)
	if err != nil {
		t.Fatal(err)
	}
	syscall.CloseOnExec(fd)
	t.Cleanup(func() { syscall.Close(fd) })
	if err := errors.Join(syscall.Bind(fd, &syscall.SockaddrUnix{Name: path}), syscall.Listen(fd, 1)); err != nil {
		t.Fatal(err)
	}
	for err == nil {
		var c net.Conn
		if c, err = net.Dial("unix", path); err == nil {
			t.Cleanup(func() { c.Close() })
		}
	}
	if !errors.Is(err, syscall.EAGAIN) {
		t.Fatal(err)
	}
}

func TestCheckReportsAllProblemsWithTheSettings(t *testing.T) {
	bad := []string{"AUTHGEAR_ENDPOINT=myapp.authgear.cloud", "AUTHGEAR_MODE=fast", "AUTHGEAR_WEBHOOK_SECRET=canary", "AUTHGEAR_MAX_STALENES=1s"}
	status, text, report := runCheck(t, func(args ...string) *exec.Cmd { return proxytest.Command(t, bad, args...) }, "")
	if status != 1 || !slices.Equal(report.names("fail", "warn"), []string{"settings", "settings", "settings", "settings"}) || len(report.names("pass")) > 0 {
		t.Errorf("exit status %d:\n%s", status, text)
	}
	for _, want := range []string{"AUTHGEAR_ENDPOINT\n", "AUTHGEAR_MODE\n", "AUTHGEAR_WEBHOOK_SECRET\n         > must have 16 characters or more: copy it", "AUTHGEAR_MAX_STALENES is unknown"} {
		if strings.Count(text, "settings: "+want) != 1 {
			t.Errorf("%q is not there once:\n%s", want, text)
		}
	}
}

func TestCheckSaysWhatItLacks(t *testing.T) {
	for want, args := range map[string][]string{
		"check takes flags alone":                   {"now"},
		"-token: the file cannot be read":           {"-token", "canary"},
		"flag provided but not defined: -tokenfile": {"-tokenfile", "canary"},
	} {
		status, stdout, stderr := result(t, proxytest.Command(t, nil, append([]string{"check"}, args...)...))
		if status != 1 || stdout != "" || !strings.Contains(stderr, want) || strings.Contains(stderr, "canary") {
			t.Errorf("check %q: exit status %d, %q, %q; want %q", args, status, stdout, stderr, want)
		}
	}
	if status, _, stderr := result(t, proxytest.Command(t, nil, "check", "-h")); status != 0 || !strings.HasPrefix(stderr, checkUsage) {
		t.Errorf("check -h: exit status %d, %q", status, stderr)
	}
}

// The page has a row for each step, in order.
func TestThePageListsTheSteps(t *testing.T) {
	_, _, report := runCheck(t, func(args ...string) *exec.Cmd { return proxytest.Command(t, nil, args...) }, "")
	var rows []string
	for _, m := range regexp.MustCompile("(?m)^\\| ((`[a-z_]+` )+)\\|").FindAllStringSubmatch(read(t, "docs/check.md"), -1) {
		rows = append(rows, strings.Fields(strings.ReplaceAll(m[1], "`", ""))...)
	}
	if names := report.names("fail", "skipped"); !slices.Equal(names, rows) {
		t.Errorf("docs/check.md has %q, the steps are %q", rows, names)
	}
}
