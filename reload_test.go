package main

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"authgear-forward-auth/internal/authgeartest"
	"authgear-forward-auth/internal/proxytest"
)

// accepts tells whether the service takes a delivery that is signed with a secret.
func accepts(t *testing.T, s *proxytest.Service, secret string) bool {
	t.Helper()
	mac := hmac.New(sha256.New, []byte(secret))
	mac.Write([]byte("{}"))
	resp, _ := proxytest.Raw(t, s.Addr, "POST /hooks/authgear HTTP/1.1\r\nHost: auth\r\nContent-Length: 2\r\nX-Authgear-Body-Signature: "+
		hex.EncodeToString(mac.Sum(nil))+"\r\n\r\n{}")
	return resp.StatusCode != http.StatusUnauthorized
}

func TestAHangupReadsTheSecretsAgain(t *testing.T) {
	const old, next = "0123456789abcdef-old-canary", "0123456789abcdef-new-canary"
	file := filepath.Join(t.TempDir(), "secret")
	write := func(text string) {
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	const (
		read    = `"what":["the webhook secret","Authgear's keys"]`
		notRead = `"message":"not read again: the webhook secret; what was in force stays so"`
	)
	write(old)
	s, _ := start(t, "AUTHGEAR_WEBHOOK_SECRET_FILE="+file)
	for i, step := range []struct {
		name, content string
		hangup        string // what the log says of it
		old, new      bool   // which is accepted
	}{
		{"the file has changed", next, "", true, false},
		{"SIGHUP", next, read, false, true},
		{"both, while it is being changed", old + "," + next, read, true, true},
		{"one that is too short", "canary", notRead, true, true},
		{"an empty file", "", notRead, true, true},
		{"the new one alone", next + "\n", read, false, true},
	} {
		write(step.content)
		if step.hangup != "" {
			before := len(s.Log())
			s.Signal(syscall.SIGHUP)
			proxytest.Eventually(t, step.name, func() bool { return strings.Contains(s.Log()[before:], step.hangup) })
		}
		if got, want := [2]bool{accepts(t, s, old), accepts(t, s, next)}, [2]bool{step.old, step.new}; got != want {
			t.Errorf("%d, %s: the old one and the new one are accepted: %v, want %v", i, step.name, got, want)
		}
	}
	if strings.Contains(s.Log(), "canary") {
		t.Errorf("the log tells a secret: %s", s.Log())
	}
}

// It is handled later, not the end of the process.
func TestAHangupMayComeWhileTheSettingsAreRead(t *testing.T) {
	file := filepath.Join(t.TempDir(), "secret")
	if err := syscall.Mkfifo(file, 0o600); err != nil {
		t.Fatal(err)
	}
	s := proxytest.NewService(t, "AUTHGEAR_ENDPOINT=http://127.0.0.1:1", "AUTHGEAR_MODE=resolver", "AUTHGEAR_WEBHOOK_SECRET_FILE="+file)
	p := proxytest.Start(t, s.Command())
	// tell lets whoever reads the file now have the secret.
	tell := func(first func()) bool {
		f, err := os.OpenFile(file, os.O_WRONLY|syscall.O_NONBLOCK, 0)
		if err != nil {
			return false // nobody does
		}
		defer f.Close()
		first()
		f.WriteString("0123456789abcdef")
		return true
	}
	proxytest.Eventually(t, "the secret is read", func() bool { return tell(func() { p.Signal(syscall.SIGHUP) }) })
	proxytest.Eventually(t, "it is read again", func() bool {
		tell(func() {})
		return strings.Contains(p.Output(), `"what":["the webhook secret"]`)
	})
}

// However short ago they were fetched: the service has just started.
func TestAHangupFetchesTheKeys(t *testing.T) {
	s, authgear := start(t)
	proxytest.Eventually(t, "the first fetch", func() bool { return authgear.KeyFetches() == 1 })
	s.Signal(syscall.SIGHUP)
	proxytest.Eventually(t, "the second fetch", func() bool { return authgear.KeyFetches() == 2 })

	authgear.Fail("keys", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusBadGateway) })
	s.Signal(syscall.SIGHUP)
	proxytest.Eventually(t, "the log says that they are not fetched", func() bool {
		return strings.Contains(s.Log(), "not read again: Authgear's keys; what was in force stays so")
	})
	if resp := ask(t, s, "Authorization: Bearer "+authgear.JWT(authgear.AddUser(authgeartest.User{ID: "ada"}))); resp.StatusCode != 200 {
		t.Errorf("with the keys from before: status %d, want 200", resp.StatusCode)
	}
}

func TestWhereNoKeyIsNeededAHangupFetchesNone(t *testing.T) {
	s, authgear := start(t, "AUTHGEAR_MODE=resolver")
	s.Signal(syscall.SIGHUP)
	proxytest.Eventually(t, "the log says that it is done", func() bool { return strings.Contains(s.Log(), `"message":"read again"`) })
	if n := authgear.KeyFetches(); n != 0 {
		t.Errorf("the keys are fetched %d times, want 0", n)
	}
}

func TestAHangupReadsTheCertificatesAgain(t *testing.T) {
	old, next := proxytest.NewCA(t), proxytest.NewCA(t)
	s, _, v := onTLS(t, old)
	v.put(map[string][]byte{"CERT": []byte("none"), "KEY": []byte("none")})
	s.Signal(syscall.SIGHUP)
	proxytest.Eventually(t, "the log says why", func() bool {
		return strings.Contains(s.Log(), "not read again: the certificates; what was in force stays so") && strings.Contains(s.Log(), "is no PEM file")
	})
	if !shows(t, s, old) {
		t.Error("the old certificate is no longer shown")
	}
	v.put(pair(t, next))
	s.Signal(syscall.SIGHUP)
	proxytest.Eventually(t, "the log says so", func() bool { return strings.Contains(s.Log(), `"what":["Authgear's keys","the certificates"]`) })
	if !shows(t, s, next) {
		t.Error("the new certificate is not shown")
	}
}
