package doctor_test

import (
	"net/http"
	"os"
	"regexp"
	"strings"
	"testing"

	"authgear-forward-auth/internal/authgeartest"
	"authgear-forward-auth/internal/proxytest"
)

// shadow returns a piece of configuration from the page about moving over.
func shadow(t *testing.T, mark string) string {
	t.Helper()
	page, err := os.ReadFile("../../docs/migration.md")
	if err != nil {
		t.Fatal(err)
	}
	m := regexp.MustCompile("(?s)<!-- " + mark + " -->\n```nginx\n(.*?)```").FindSubmatch(page)
	if m == nil {
		t.Fatalf("docs/migration.md lacks %s", mark)
	}
	return string(m[1])
}

// The service is asked beside the documented recipe, about the same requests, and
// changes nothing: neither by what it answers nor by its absence.
func TestTheDocumentedRecipeMayHaveAShadow(t *testing.T) {
	authgear := authgeartest.Start(t, authgeartest.Options{})
	ada := authgear.OpaqueToken(authgear.AddUser(authgeartest.User{ID: "ada"}))
	service := proxytest.NewService(t, "AUTHGEAR_ENDPOINT="+authgear.Origin(), "AUTHGEAR_LOG_DECISIONS=all")
	service.Start()
	_, front := startNginx(t, "documented.conf",
		"127.0.0.1:3001", strings.TrimPrefix(authgear.URL(), "http://"),
		"authgear.example", strings.TrimPrefix(authgear.Origin(), "http://"),
		"auth_request /_auth;", "auth_request /_auth;\n"+shadow(t, "the shadow"),
		"location = /_auth {", strings.Replace(shadow(t, "the shadow's location"), "127.0.0.1:4180", service.Addr, 1)+"\nlocation = /_auth {")
	get := func(token string) {
		t.Helper()
		req, err := http.NewRequest("POST", front+"/orders?optional&x=1", strings.NewReader("a body"))
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Authorization", "Bearer "+token)
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if resp.StatusCode != 404 { // of the echo, to all requests but the doctor's
			t.Errorf("status %d, want the application's own", resp.StatusCode)
		}
	}
	get(ada)
	get("bad")
	service.Stop() // what was asked is answered and logged first
	for _, want := range []string{`"reason":"ok","method":"POST"`, `"reason":"unknown_token","method":"POST"`} {
		if !strings.Contains(service.Log(), want) {
			t.Errorf("the service was not asked: no %s in %s", want, service.Log())
		}
	}
	get(ada)
}
