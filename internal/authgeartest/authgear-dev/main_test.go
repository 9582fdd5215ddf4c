package main

import (
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"regexp"
	"strings"
	"testing"

	"authgear-forward-auth/internal/authgeartest"
)

func TestDemoServesFreshLines(t *testing.T) {
	site := &url.URL{Scheme: "http", Host: "127.0.0.1:8080"}
	d := newDemo(authgeartest.New(authgeartest.Options{}), site)
	ask := func(query string) (int, string) {
		w := httptest.NewRecorder()
		d.serve(w, httptest.NewRequest("GET", "/demo"+query, nil))
		return w.Code, w.Body.String()
	}
	_, first := ask("")
	_, second := ask("")
	if first == second {
		t.Error("the tokens are the same as before, and will expire")
	}
	_, third := ask("?port=8081")
	for page, at := range map[string]string{first: "127.0.0.1:8080", third: "127.0.0.1:8081"} {
		lines := regexp.MustCompile(`(?m)^curl -i (-H '[^']+' )?'http://`+regexp.QuoteMeta(at)+`/(admin/)?'$`).FindAllString(page, -1)
		if len(lines) != 7 || strings.Count(page, "\n# ") != 6 {
			t.Errorf("%d lines for %s, want 7:\n%s", len(lines), at, page)
		}
	}
	if status, _ := ask("?port=1'"); status != http.StatusBadRequest {
		t.Errorf("a port that is none is answered %d", status)
	}
}

func TestHealthcheck(t *testing.T) {
	authgear := authgeartest.Start(t, authgeartest.Options{})
	for path, healthy := range map[string]bool{"/healthz": true, "/nothing-here": false} {
		err := command(t.Context(), flags{}, []string{"healthcheck", authgear.URL() + path})
		if (err == nil) != healthy {
			t.Errorf("%s: %v", path, err)
		}
	}
	if command(t.Context(), flags{}, []string{"healthcheck", "http://127.0.0.1:1/"}) == nil {
		t.Error("healthy, and nothing listens")
	}
	if command(t.Context(), flags{}, []string{"serve"}) == nil {
		t.Error("an unknown command is no error")
	}
}

func TestRunFailsWhereItCannotListen(t *testing.T) {
	if err := run(t.Context(), flags{app: "127.0.0.1:http-nowhere"}, io.Discard); err == nil {
		t.Error("no error")
	}
}
