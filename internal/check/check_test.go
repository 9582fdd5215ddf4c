package check_test

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"errors"
	"io"
	"log"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"authgear-forward-auth/internal/authgeartest"
	"authgear-forward-auth/internal/check"
)

// canary is a webhook secret.
const canary = "canary0123456789canary0123456789"

// An authority is one that this process trusts.
type authority struct {
	certificate *x509.Certificate
	key         *ecdsa.PrivateKey
}

var trusted authority

// TestMain lets all clients of this process trust the authority, as an operator
// does.
func TestMain(m *testing.M) {
	os.Exit(func() int {
		dir, err := os.MkdirTemp("", "")
		if err != nil {
			panic(err)
		}
		defer os.RemoveAll(dir)
		template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "authority"}, IsCA: true, BasicConstraintsValid: true,
			NotBefore: time.Now().Add(-1000 * time.Hour), NotAfter: time.Now().Add(10000 * time.Hour)}
		trusted.key = newKey()
		der := sign(template, template, trusted.key, trusted.key)
		trusted.certificate, _ = x509.ParseCertificate(der)
		file := filepath.Join(dir, "authority.pem")
		if err := os.WriteFile(file, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), 0o600); err != nil {
			panic(err)
		}
		os.Setenv("SSL_CERT_FILE", file)
		return m.Run()
	}())
}

func newKey() *ecdsa.PrivateKey {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		panic(err)
	}
	return key
}

func sign(template, parent *x509.Certificate, key, signer *ecdsa.PrivateKey) []byte {
	der, err := x509.CreateCertificate(rand.Reader, template, parent, &key.PublicKey, signer)
	if err != nil {
		panic(err)
	}
	return der
}

// certificate is a good one for localhost, for a hundred days, with a change. Without
// a signer it signs itself.
func certificate(signer *authority, change func(*x509.Certificate)) tls.Certificate {
	template := &x509.Certificate{SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: "Authgear"}, DNSNames: []string{"localhost"},
		NotBefore: time.Now().Add(-24 * time.Hour), NotAfter: time.Now().Add(100*24*time.Hour + time.Hour)}
	change(template)
	key := newKey()
	if signer == nil {
		signer = &authority{template, key}
	}
	return tls.Certificate{Certificate: [][]byte{sign(template, signer.certificate, key, signer.key)}, PrivateKey: key}
}

func unchanged(*x509.Certificate) {}

// A stand is an Authgear at an address of its own, and settings that fit it. A fault
// is a change of one of its parts.
type stand struct {
	*authgeartest.Server
	check.Options
	handler http.Handler // what answers
}

func newStand(t *testing.T, o authgeartest.Options, certificates ...tls.Certificate) *stand {
	t.Helper()
	s := new(stand)
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { s.handler.ServeHTTP(w, r) }))
	server.Config.ErrorLog = log.New(io.Discard, "", 0)
	origin := "http://" + server.Listener.Addr().String()
	if len(certificates) > 0 {
		_, port, _ := net.SplitHostPort(server.Listener.Addr().String())
		origin = "https://localhost:" + port
	}
	o.Origin = origin
	s.Server = authgeartest.New(o)
	s.handler = s.Server
	keys, _ := authgeartest.RecordedKeys() // to make some takes its time
	s.SetKeys(keys)
	if len(certificates) > 0 {
		server.TLS = &tls.Config{Certificates: certificates}
		server.StartTLS()
	} else {
		server.Start()
	}
	t.Cleanup(server.Close)
	s.Options = check.Options{
		Endpoint: parse(t, origin), ResolverURL: parse(t, origin+"/_resolver/resolve"), Local: true, Remote: true,
		CookiePrefix: o.CookiePrefix, Audiences: []string{origin}, ClockSkew: 30 * time.Second, Timeout: 10 * time.Second,
		WebhookSecrets: []string{canary}, Listen: at("127.0.0.1:0"), Admin: at("127.0.0.1:0"),
	}
	return s
}

func parse(t *testing.T, text string) *url.URL {
	t.Helper()
	u, err := url.Parse(text)
	if err != nil {
		t.Fatal(err)
	}
	return u
}

func at(address string) check.Listener {
	return check.Listener{
		Address: address,
		Open:    func() (net.Listener, error) { return net.Listen("tcp", address) },
		Dial:    func() (net.Conn, error) { return net.DialTimeout("tcp", address, time.Second) },
	}
}

// instead answers one path, or with "" all, in place of Authgear.
func (s *stand) instead(path string, f http.HandlerFunc) {
	next := s.handler
	s.handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if path == "" || r.URL.Path == path {
			f(w, r)
			return
		}
		next.ServeHTTP(w, r)
	})
}

// give hands the service a token that is signed with a key of its own.
func (s *stand) give(token func(*authgeartest.User) string) {
	s.SetKeys(nil)
	s.Token = token(s.AddUser(authgeartest.User{ID: "ada"}))
}

func (s *stand) jwt(ada *authgeartest.User) string { return s.JWT(ada) }

// through puts a proxy between the service and the resolver, which changes questions.
func (s *stand) through(t *testing.T, change func(*http.Request)) {
	proxy := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		change(r)
		s.Server.ServeHTTP(w, r)
	}))
	t.Cleanup(proxy.Close)
	s.ResolverURL = parse(t, proxy.URL+"/_resolver/resolve")
}

func (s *stand) examine(t *testing.T) *check.Report {
	t.Helper()
	report := check.Examine(t.Context(), s.Options)
	for _, write := range []func(*bytes.Buffer) error{
		func(b *bytes.Buffer) error { return report.Write(b) },
		func(b *bytes.Buffer) error { return report.WriteJSON(b) },
	} {
		var b bytes.Buffer
		if err := write(&b); err != nil {
			t.Error(err)
		}
		for _, secret := range append([]string{s.Token}, s.WebhookSecrets...) {
			if secret != "" && strings.Contains(b.String(), secret) {
				t.Errorf("a secret is told:\n%s", b.String())
			}
		}
	}
	return report
}

// remarkable are the steps that are neither passed nor skipped.
func remarkable(r *check.Report) []check.Step {
	return slices.DeleteFunc(slices.Clone(r.Steps), func(s check.Step) bool { return s.Status == check.Passed || s.Status == check.Skipped })
}

// skips are the names of the steps that were skipped.
func skips(r *check.Report) string {
	var names []string
	for _, s := range r.Steps {
		if s.Status == check.Skipped {
			names = append(names, s.Name)
		}
	}
	return strings.Join(names, " ")
}

func TestAGoodSetUp(t *testing.T) {
	const notTLS, together = "endpoint_tls ", "resolver_dns resolver_tcp resolver_tls "
	good := certificate(&trusted, unchanged)
	for _, tt := range []struct {
		name                 string
		stand                *stand
		change               func(*stand)
		skipped              string
		keyFetches, resolver int
	}{
		{"without a token", newStand(t, authgeartest.Options{}), func(*stand) {}, notTLS + together + "token", 1, 1},
		{"by https", newStand(t, authgeartest.Options{}, good), func(s *stand) { s.give(s.jwt) }, "resolver_dns resolver_tcp resolver_tls", 2, 2},
		{"an opaque token", newStand(t, authgeartest.Options{}), func(s *stand) { s.give(s.OpaqueToken) }, notTLS + "resolver_dns resolver_tcp resolver_tls", 1, 2},
		{"a machine's token", newStand(t, authgeartest.Options{}), func(s *stand) {
			s.give(func(*authgeartest.User) string { return s.M2M("cron", s.Origin()) })
		}, notTLS + "resolver_dns resolver_tcp resolver_tls", 2, 1},
		{"several tenants, prefix and domain", newStand(t, authgeartest.Options{MultiTenant: true, CookiePrefix: "lab2_", CookieDomain: "example.com"}), func(s *stand) { s.give(s.jwt) }, notTLS + "resolver_dns resolver_tcp resolver_tls", 2, 2},
		{"another address of the resolver", newStand(t, authgeartest.Options{}, good), func(s *stand) { s.through(t, func(*http.Request) {}); s.give(s.jwt) }, "resolver_tls", 2, 2},
		{"mode jwt", newStand(t, authgeartest.Options{}), func(s *stand) { s.Remote = false; s.give(s.jwt) }, notTLS + together + "resolver resolver_scheme", 2, 0},
		{"mode resolver", newStand(t, authgeartest.Options{}), func(s *stand) { s.Local = false; s.give(s.jwt) }, notTLS + "keys resolver_dns resolver_tcp resolver_tls", 0, 2},
		{"mode resolver, and main cannot be reached", newStand(t, authgeartest.Options{}), func(s *stand) {
			s.Local = false
			s.give(s.jwt)
			s.through(t, func(*http.Request) {})
			s.instead("", func(w http.ResponseWriter, r *http.Request) { t.Errorf("main is asked for %s", r.URL) })
		}, "endpoint_dns endpoint_tcp endpoint_tls discovery keys resolver_tls", 0, 3},
		{"no webhook", newStand(t, authgeartest.Options{}), func(s *stand) { s.WebhookSecrets = nil }, notTLS + together + "token webhook_secret", 1, 1},
	} {
		t.Run(tt.name, func(t *testing.T) {
			tt.change(tt.stand)
			report := tt.stand.examine(t)
			if odd := remarkable(report); len(odd) > 0 || !report.OK() {
				t.Errorf("%+v", odd)
			}
			if got, want := skips(report), tt.skipped+" redis tls"; got != want {
				t.Errorf("skipped: %s, want %s", got, want)
			}
			if n := tt.stand.KeyFetches(); n != tt.keyFetches {
				t.Errorf("the keys were fetched %d times, want %d", n, tt.keyFetches)
			}
			if n := tt.stand.ResolverCalls(); n != tt.resolver {
				t.Errorf("the resolver was asked %d times, want %d", n, tt.resolver)
			}
		})
	}
}

func TestBadSettingsAreReportedTogetherAndNothingElseIsLookedAt(t *testing.T) {
	s := &stand{Options: check.Options{
		Problems: []error{errors.New("AUTHGEAR_MODE: must be one of [hybrid jwt resolver], not \"fast\""), errors.New("AUTHGEAR_ENDPOINT: is required")},
		Warnings: []string{"AUTHGEAR_MOD is unknown and has no effect: is AUTHGEAR_MODE meant?"},
	}}
	report := s.examine(t)
	want := []check.Step{
		{Name: "settings", Status: check.Failed, Found: "AUTHGEAR_MODE", Cure: "must be one of [hybrid jwt resolver], not \"fast\""},
		{Name: "settings", Status: check.Failed, Found: "AUTHGEAR_ENDPOINT", Cure: "is required"},
		{Name: "settings", Status: check.Warned, Found: "AUTHGEAR_MOD is unknown and has no effect", Cure: "is AUTHGEAR_MODE meant?"},
	}
	if got := remarkable(report); !slices.Equal(got, want) {
		t.Errorf("found %+v, want %+v", got, want)
	}
	for _, step := range report.Steps[len(want):] {
		if step.Status != check.Skipped || step.Found != "settings failed" {
			t.Errorf("%+v", step)
		}
	}
}

func TestTheTimeForAllStepsIsBounded(t *testing.T) {
	s := newStand(t, authgeartest.Options{})
	s.handler = http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { t.Errorf("Authgear is asked for %s", r.URL) })
	over, cancel := context.WithDeadline(t.Context(), time.Now())
	defer cancel()
	report := check.Examine(over, s.Options)
	if odd := remarkable(report); report.OK() || len(odd) == 0 || odd[0].Name != "endpoint_dns" || odd[0].Found != "not made: the time for all steps is over" {
		t.Errorf("%+v", odd)
	}
}

func TestJSON(t *testing.T) {
	s := newStand(t, authgeartest.Options{})
	s.WebhookSecrets = []string{canary, canary}
	var b bytes.Buffer
	if err := s.examine(t).WriteJSON(&b); err != nil {
		t.Fatal(err)
	}
	var got struct {
		OK    *bool
		Steps []map[string]string
	}
	if err := json.Unmarshal(b.Bytes(), &got); err != nil || got.OK == nil || !*got.OK {
		t.Fatalf("%v: %s", err, b.String())
	}
	for _, step := range got.Steps {
		members := 3
		if step["status"] == "warn" {
			members = 4
		}
		if len(step) != members || step["step"] == "" || step["found"] == "" || (step["cure"] != "") != (members == 4) {
			t.Errorf("%v", step)
		}
	}
}

// What a server says can steer no terminal.
func TestOutputIsPlainText(t *testing.T) {
	s := newStand(t, authgeartest.Options{})
	keys, _ := authgeartest.RecordedKeys()
	s.SetKeys([]byte(strings.Replace(string(keys), `"kid":"`, `"kid":"\u001b[2J`+strings.Repeat("x", 2000), 1)))
	var b bytes.Buffer
	if err := s.examine(t).Write(&b); err != nil {
		t.Fatal(err)
	}
	if text := b.String(); strings.Contains(text, "\x1b") || strings.Count(text, "x") > 1000 || !strings.Contains(text, "[2Jxxx") {
		t.Errorf("%q", text)
	}
}
