package main

import (
	"bytes"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"authgear-forward-auth/internal/proxytest"
)

// runDoctor runs the doctor command with a proxy that lets everybody in, and
// leads to the doctor.
func runDoctor(t *testing.T, args ...string) (stdout string, err error) {
	t.Helper()
	echo := proxytest.FreeAddr(t)
	proxy := httptest.NewServer(httputil.NewSingleHostReverseProxy(&url.URL{Scheme: "http", Host: echo}))
	defer proxy.Close()
	var out bytes.Buffer
	err = run(t.Context(), append([]string{"doctor", "-echo", echo}, append(args, proxy.URL+"/app")...), &out, &out)
	return out.String(), err
}

func TestDoctor(t *testing.T) {
	const token = "nobody-may-see-this"
	file := filepath.Join(t.TempDir(), "token")
	if err := os.WriteFile(file, []byte(token+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	out, err := runDoctor(t, "-token", file)
	if err == nil || err.Error() != "the proxy has holes" {
		t.Errorf("the doctor ends with: %v", err)
	}
	for _, want := range []string{"FINDING 1: Visitors pass\n", "no credential: it arrived\n", " findings, ", " checks made: "} {
		if !strings.Contains(out, want) {
			t.Errorf("the report lacks %q", want)
		}
	}
	asJSON, _ := runDoctor(t, "-token", file, "-json")
	var report struct{ Findings []struct{ Title, Why string } }
	if err := json.Unmarshal([]byte(asJSON), &report); err != nil || len(report.Findings) == 0 || report.Findings[0].Title != "Visitors pass" {
		t.Errorf("-json: %v, %+v", err, report)
	}
	if strings.Contains(out+asJSON, token) {
		t.Error("the token is shown")
	}
}

func TestDoctorSaysWhatItLacks(t *testing.T) {
	file := filepath.Join(t.TempDir(), "token")
	if err := os.WriteFile(file, []byte("two tokens"), 0o600); err != nil {
		t.Fatal(err)
	}
	other := httptest.NewServer(http.NotFoundHandler()) // a route that does not lead to the doctor
	defer other.Close()
	for _, tt := range []struct {
		args []string
		want string
	}{
		{nil, "one URL is needed"},
		{[]string{"/app"}, "URL: must begin with https://"},
		{[]string{"-proxy", "apache", other.URL}, "-proxy: must be one of [caddy envoy haproxy nginx traefik]"},
		{[]string{"-token", file, other.URL}, "-token: the file must hold an access token"},
		{[]string{"-token", "two tokens", other.URL}, "-token: the file cannot be read: no such file"},
		{[]string{"-token", "two tokens" + strings.Repeat("x", 300), other.URL}, "-token: the file cannot be read: file name too long"},
		{[]string{"-echo", "here", other.URL}, "-echo: "},
		{[]string{"-echo", proxytest.FreeAddr(t), other.URL}, "nothing reaches the doctor"},
		{[]string{"-echo", proxytest.FreeAddr(t), "http://" + proxytest.FreeAddr(t)}, "connection refused"},
	} {
		var out bytes.Buffer
		err := run(t.Context(), append([]string{"doctor"}, tt.args...), &out, &out)
		if err == nil || !strings.Contains(err.Error(), tt.want) || strings.Contains(err.Error(), "two tokens") {
			t.Errorf("doctor %q: %v, want %s", tt.args, err, tt.want)
		}
	}
}
