package main

import (
	"bufio"
	"crypto/tls"
	"crypto/x509"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/rs/zerolog"

	"authgear-forward-auth/internal/authgeartest"
	"authgear-forward-auth/internal/proxytest"
)

// A volume is a directory that changes as Kubernetes changes its own: what a name stands
// for is reached over a symbolic link, and that is replaced.
type volume struct {
	t    *testing.T
	dir  string
	made int
}

// put makes the files be those alone. :: name → content
func (v *volume) put(files map[string][]byte) {
	v.t.Helper()
	check := func(err error) {
		v.t.Helper()
		if err != nil && !os.IsExist(err) {
			v.t.Fatal(err)
		}
	}
	v.made++
	data := filepath.Join(v.dir, "..", filepath.Base(v.dir)+"-"+strings.Repeat("i", v.made))
	check(os.MkdirAll(v.dir, 0o755))
	check(os.Mkdir(data, 0o755))
	for name, content := range files {
		check(os.WriteFile(filepath.Join(data, name), content, 0o600))
		check(os.Symlink("..data/"+name, filepath.Join(v.dir, name)))
	}
	check(os.Symlink(data, filepath.Join(v.dir, "..new")))
	check(os.Rename(filepath.Join(v.dir, "..new"), filepath.Join(v.dir, "..data")))
}

// onTLS runs a service with a certificate, and with those settings (AUTHGEAR_TLS_…) that are
// named; what they name is in the volume.
func onTLS(t *testing.T, ca *proxytest.CA, named ...string) (*proxytest.Service, *authgeartest.Server, *volume) {
	t.Helper()
	v := &volume{t: t, dir: filepath.Join(t.TempDir(), "tls")}
	v.put(pair(t, ca))
	var settings []string
	for _, name := range append(named, "CERT", "KEY") {
		settings = append(settings, "AUTHGEAR_TLS_"+name+"="+filepath.Join(v.dir, name))
	}
	s, authgear := start(t, settings...)
	return s, authgear, v
}

// pair returns the files of a certificate of a CA, and of that CA.
func pair(t *testing.T, ca *proxytest.CA) map[string][]byte {
	t.Helper()
	cert, key := ca.Sign(t, "the service")
	return map[string][]byte{"CERT": cert, "KEY": key, "CLIENT_CA": ca.PEM}
}

// trusting returns how a client speaks TLS that trusts a CA, and has a certificate of
// another one, if any.
func trusting(t *testing.T, ca, own *proxytest.CA) *tls.Config {
	t.Helper()
	config := &tls.Config{RootCAs: ca.Pool}
	if own != nil {
		pair, err := tls.X509KeyPair(own.Sign(t, "a proxy"))
		if err != nil {
			t.Fatal(err)
		}
		config.Certificates = []tls.Certificate{pair}
	}
	return config
}

// askTLS asks on a connection of its own.
func askTLS(s *proxytest.Service, config *tls.Config, token string) (*http.Response, tls.ConnectionState, error) {
	c, err := tls.DialWithDialer(&net.Dialer{Timeout: time.Minute}, "tcp", s.Addr, config)
	if err != nil {
		return nil, tls.ConnectionState{}, err
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(time.Minute))
	if _, err := c.Write([]byte(question(token))); err != nil {
		return nil, tls.ConnectionState{}, err
	}
	resp, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil {
		return nil, tls.ConnectionState{}, err
	}
	return resp, c.ConnectionState(), whole(resp)
}

func TestTheMainListenerSpeaksTLS(t *testing.T) {
	ca := proxytest.NewCA(t)
	s, authgear, _ := onTLS(t, ca)
	token := authgear.JWT(authgear.AddUser(authgeartest.User{ID: "ada"}))
	for version, good := range map[uint16]bool{tls.VersionTLS11: false, tls.VersionTLS12: true, tls.VersionTLS13: true} {
		config := trusting(t, ca, nil)
		config.MinVersion, config.MaxVersion = version, version
		resp, state, err := askTLS(s, config, token)
		if good && (err != nil || state.Version != version || resp.Header.Get("X-Authgear-User-Id") != "ada") {
			t.Errorf("%s: %v", tls.VersionName(version), err)
		}
		if !good && err == nil {
			t.Errorf("%s is spoken", tls.VersionName(version))
		}
	}
	c := connect(t, s.Addr)
	if err := c.ask(question(token)); err == nil {
		t.Error("a question without TLS is answered")
	}
	proxytest.Eventually(t, "the log says why", func() bool { return strings.Contains(s.Log(), "first record does not look like a TLS handshake") })
	if status, _, stderr := result(t, s.Command("healthcheck")); status != 0 {
		t.Errorf("healthcheck: exit status %d: %s", status, stderr)
	}
}

func TestWithAClientCAOnlyItsCertificatesPass(t *testing.T) {
	ca, other := proxytest.NewCA(t), proxytest.NewCA(t)
	s, authgear, _ := onTLS(t, ca, "CLIENT_CA")
	token := authgear.JWT(authgear.AddUser(authgeartest.User{ID: "ada"}))
	for _, tt := range []struct {
		name string
		own  *proxytest.CA
		log  string // why not
	}{
		{"a certificate of the CA", ca, ""},
		{"no certificate", nil, "client didn't provide a certificate"},
		{"a certificate of another CA", other, "certificate signed by unknown authority"},
	} {
		_, _, err := askTLS(s, trusting(t, ca, tt.own), token)
		if (err == nil) != (tt.log == "") {
			t.Errorf("%s: %v", tt.name, err)
		}
		proxytest.Eventually(t, tt.name+": the log says "+tt.log, func() bool { return strings.Contains(s.Log(), tt.log) })
	}
	if status, _, stderr := result(t, s.Command("healthcheck")); status != 0 {
		t.Errorf("healthcheck: exit status %d: %s", status, stderr)
	}
}

// shows tells whether the service shows a certificate of a CA.
func shows(t *testing.T, s *proxytest.Service, ca *proxytest.CA) bool {
	t.Helper()
	c, err := tls.Dial("tcp", s.Addr, trusting(t, ca, nil))
	if err == nil {
		c.Close()
	}
	return err == nil
}

func TestANewCertificateIsShownAsSoonAsItCanBeUsed(t *testing.T) {
	old, next := proxytest.NewCA(t), proxytest.NewCA(t)
	s, authgear, v := onTLS(t, old)
	kept, err := tls.Dial("tcp", s.Addr, trusting(t, old, nil))
	if err != nil {
		t.Fatal(err)
	}
	defer kept.Close()

	half := pair(t, next)
	half["KEY"] = pair(t, next)["KEY"] // not that of the certificate
	v.put(half)
	const warning = "the new certificates are not used"
	proxytest.Eventually(t, "the pair that is none is seen", func() bool {
		if !shows(t, s, old) {
			t.Fatal("the old certificate is no longer shown")
		}
		return strings.Contains(s.Log(), warning)
	})
	os.Remove(filepath.Join(v.dir, "..data"))
	proxytest.Eventually(t, "that the files are gone is seen", func() bool {
		if !shows(t, s, old) {
			t.Fatal("the old certificate is no longer shown")
		}
		return strings.Contains(s.Log(), "no such file")
	})
	if n := strings.Count(s.Log(), warning); n != 2 {
		t.Errorf("%d warnings of 2 changes", n)
	}
	v.put(pair(t, next))
	proxytest.Eventually(t, "the new certificate is shown", func() bool { return shows(t, s, next) })
	c := &client{kept, bufio.NewReader(kept)}
	if err := c.ask(question(authgear.JWT(authgear.AddUser(authgeartest.User{ID: "ada"})))); err != nil {
		t.Errorf("on a connection from before: %v", err)
	}
}

// A file may be unreadable for a moment, and look the same afterwards.
func TestFilesThatCannotBeReadAreReadAgain(t *testing.T) {
	c := &certificates{cert: t.TempDir(), log: zerolog.Nop()}
	c.look()
	if c.said == "" || c.seen != nil {
		t.Errorf("said %q, seen %v: they are taken for read", c.said, c.seen)
	}
}

// unfits are changes by which peers refuse a certificate, and what is said of it.
var unfits = map[string]func(*x509.Certificate){
	"the certificate has expired at":     func(c *x509.Certificate) { c.NotAfter = time.Now().Add(-time.Minute) },
	"the certificate is not good before": func(c *x509.Certificate) { c.NotBefore = time.Now().Add(30 * time.Minute) },
	"the certificate is not for servers": func(c *x509.Certificate) { c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth} },
}

func TestACertificateThatPeersRefuseReplacesNoGoodOne(t *testing.T) {
	ca := proxytest.NewCA(t)
	s, _, v := onTLS(t, ca)
	for want, change := range unfits {
		cert, key := ca.Sign(t, "the service", change)
		v.put(map[string][]byte{"CERT": cert, "KEY": key})
		proxytest.Eventually(t, "it is seen: "+want, func() bool {
			if !shows(t, s, ca) {
				t.Fatalf("%s, and the good one is no longer shown", want)
			}
			return strings.Contains(s.Log(), want)
		})
		before := strings.Count(s.Log(), want)
		s.Signal(syscall.SIGHUP)
		proxytest.Eventually(t, "SIGHUP: "+want, func() bool { return strings.Count(s.Log(), want) > before })
		if !shows(t, s, ca) {
			t.Errorf("SIGHUP: %s, and the good one is no longer shown", want)
		}

		s.Stop() // there is no good one at the start
		s.Start()
		if !strings.Contains(s.Log(), want) || !strings.Contains(s.Log(), "the certificate is in force, but peers will refuse it") {
			t.Errorf("at the start: no word of %q: %s", want, s.Log())
		}
		v.put(pair(t, ca))
		proxytest.Eventually(t, "a good one is shown again", func() bool { return shows(t, s, ca) })
	}
}

// One that was made by a clock that is ahead is taken as soon as it is good.
func TestACertificateThatCameTooEarlyIsTakenWhenItIsGood(t *testing.T) {
	old, next := proxytest.NewCA(t), proxytest.NewCA(t)
	s, _, v := onTLS(t, old)
	cert, key := next.Sign(t, "the service", func(c *x509.Certificate) { c.NotBefore = time.Now().Add(4 * time.Second) })
	v.put(map[string][]byte{"CERT": cert, "KEY": key})
	proxytest.Eventually(t, "it is shown", func() bool { return shows(t, s, next) })
}

// Nor does a session that is resumed.
func TestACertificateOfAFormerClientCAPassesNoMore(t *testing.T) {
	ca, next := proxytest.NewCA(t), proxytest.NewCA(t)
	s, authgear, v := onTLS(t, ca, "CLIENT_CA")
	token := authgear.JWT(authgear.AddUser(authgeartest.User{ID: "ada"}))
	for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
		files := pair(t, ca)
		v.put(files)
		config := trusting(t, ca, ca)
		config.ClientSessionCache, config.MaxVersion = tls.NewLRUClientSessionCache(1), version
		proxytest.Eventually(t, "a session is resumed", func() bool {
			_, state, err := askTLS(s, config, token)
			return err == nil && state.DidResume
		})
		files["CLIENT_CA"] = next.PEM
		v.put(files)
		proxytest.Eventually(t, tls.VersionName(version)+": the former CA counts no more", func() bool {
			_, _, err := askTLS(s, config, token)
			return err != nil
		})
		if _, _, err := askTLS(s, trusting(t, ca, next), token); err != nil {
			t.Errorf("a certificate of the new CA: %v", err)
		}
	}
}

func TestFilesThatCannotBeUsedAreProblemsWithTheSettings(t *testing.T) {
	ca := proxytest.NewCA(t)
	dir := t.TempDir()
	files := pair(t, ca)
	files["OTHER_KEY"] = pair(t, ca)["KEY"]
	files["TEXT"] = []byte("canary\n")
	files["BAD_CA"] = append(files["CLIENT_CA"], "-----BEGIN CERTIFICATE-----\nY2FuYXJ5\n-----END CERTIFICATE-----\n"...)
	for name, content := range files {
		if err := os.WriteFile(filepath.Join(dir, name), content, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for _, tt := range []struct {
		cert, key, ca string
		want          []string // how the lines begin
	}{
		{"CERT", "", "", []string{"AUTHGEAR_TLS_KEY: is required"}},
		{"", "KEY", "", []string{"AUTHGEAR_TLS_CERT: is required"}},
		{"", "", "CLIENT_CA", []string{"AUTHGEAR_TLS_CERT: is required", "AUTHGEAR_TLS_KEY: is required"}},
		{"none", "none", "none", []string{"AUTHGEAR_TLS_CERT: open ", "AUTHGEAR_TLS_KEY: open ", "AUTHGEAR_TLS_CLIENT_CA: open "}},
		{"CERT", "OTHER_KEY", "", []string{"AUTHGEAR_TLS_CERT, AUTHGEAR_TLS_KEY: tls: private key does not match public key"}},
		{"KEY", "CERT", "", []string{"AUTHGEAR_TLS_CERT, AUTHGEAR_TLS_KEY: tls: "}},
		{"TEXT", "TEXT", "", []string{"AUTHGEAR_TLS_CERT: ", "AUTHGEAR_TLS_KEY: "}},
		{"CERT", "KEY", "TEXT", []string{"AUTHGEAR_TLS_CLIENT_CA: "}},
		{"CERT", "KEY", "KEY", []string{`AUTHGEAR_TLS_CLIENT_CA: a block "PRIVATE KEY"`}},
		{"CERT", "KEY", "BAD_CA", []string{`AUTHGEAR_TLS_CLIENT_CA: a block "CERTIFICATE"`}},
	} {
		settings := []string{"AUTHGEAR_ENDPOINT=http://127.0.0.1:1", "AUTHGEAR_LISTEN=" + proxytest.FreeAddr(t), "AUTHGEAR_ADMIN_LISTEN=" + proxytest.FreeAddr(t)}
		for name, file := range map[string]string{"CERT": tt.cert, "KEY": tt.key, "CLIENT_CA": tt.ca} {
			if file != "" {
				settings = append(settings, "AUTHGEAR_TLS_"+name+"="+filepath.Join(dir, file))
			}
		}
		status, _, stderr := result(t, proxytest.Command(t, settings))
		lines := strings.Split(strings.TrimSpace(stderr), "\n")
		if status != 1 || len(lines) != 1+len(tt.want) || lines[0] != "settings:" || strings.Contains(stderr, "canary") {
			t.Errorf("%+v: exit status %d: %s", tt, status, stderr)
			continue
		}
		for i, want := range tt.want {
			if !strings.HasPrefix(lines[1+i], want) {
				t.Errorf("%+v: %s", tt, lines[1+i])
			}
		}
	}
}
