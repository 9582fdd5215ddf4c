package doctor_test

import (
	"net/http/httptest"
	"net/url"
	"os/exec"
	"slices"
	"strings"
	"testing"

	"authgear-forward-auth/internal/authgeartest"
	"authgear-forward-auth/internal/doctor"
	"authgear-forward-auth/internal/proxytest"
)

// startNginx runs nginx with a configuration of testdata, in front of an echo.
func startNginx(t *testing.T, file string, edits ...string) (*doctor.Echo, string) {
	t.Helper()
	nginx, err := exec.LookPath("nginx")
	if err != nil {
		if nginx = "/usr/sbin/nginx"; exec.Command(nginx, "-v").Run() != nil {
			t.Fatal("nginx is not installed: `make test` installs it")
		}
	}
	echo := new(doctor.Echo)
	app := httptest.NewServer(echo)
	t.Cleanup(app.Close)
	front := proxytest.FreeAddr(t)
	conf := proxytest.Conf(t, "testdata/"+file, append(edits,
		"listen 8080;", "listen "+front+";",
		"127.0.0.1:8000", app.Listener.Addr().String(),
		"/tmp/authgear-nginx", proxytest.Dir(t)+"/nginx",
	)...)
	proxytest.Start(t, exec.Command(nginx, "-c", conf, "-g", "daemon off;"), front)
	return echo, "http://" + front
}

func examine(t *testing.T, echo *doctor.Echo, o doctor.Options, target string) *doctor.Report {
	t.Helper()
	var err error
	if o.URL, err = url.Parse(target); err != nil {
		t.Fatal(err)
	}
	report, err := doctor.Examine(t.Context(), echo, o)
	if err != nil {
		t.Fatal(err)
	}
	return report
}

// expectFindings compares the titles of what was found.
func expectFindings(t *testing.T, r *doctor.Report, want ...string) {
	t.Helper()
	var got []string
	for _, f := range r.Findings {
		got = append(got, f.Title)
	}
	slices.Sort(got)
	slices.Sort(want)
	if !slices.Equal(got, want) {
		var text strings.Builder
		r.Write(&text)
		t.Errorf("found %q, want %q\n%s", got, want, &text)
	}
}

func TestTheDocumentedRecipe(t *testing.T) {
	authgear := authgeartest.Start(t, authgeartest.Options{})
	ada := authgear.AddUser(authgeartest.User{ID: "ada"})
	for name, token := range map[string]string{"an opaque token": authgear.OpaqueToken(ada), "a JWT": authgear.JWT(ada)} {
		t.Run(name, func(t *testing.T) {
			echo, front := startNginx(t, "documented.conf",
				"127.0.0.1:3001", strings.TrimPrefix(authgear.URL(), "http://"),
				"authgear.example", strings.TrimPrefix(authgear.Origin(), "http://"))
			report := examine(t, echo, doctor.Options{Token: token}, front+"/orders")
			want := []string{visitorsTitle, forgedTitle, verdictTitle}
			if name == "a JWT" { // its audience is compared with the host that the client names
				want = append(want, claimTitle)
			}
			expectFindings(t, report, want...)
			if report.Proxy != "nginx" {
				t.Errorf("the proxy is %q, want nginx", report.Proxy)
			}
			for title, want := range map[string]string{
				forgedTitle:  "with a good token: X-Authgear-Client-Id, X-Authgear-Scope, X-Authgear-User-Roles",
				verdictTitle: `the token in the cookie app_access_token, then a request without it: it arrived as user "ada"`,
			} {
				if arrived := finding(report, title).Arrived; !slices.Contains(arrived, want) {
					t.Errorf("%s: %q, want %q", title, arrived, want)
				}
			}
		})
	}
}

func finding(r *doctor.Report, title string) doctor.Finding {
	for _, f := range r.Findings {
		if f.Title == title {
			return f
		}
	}
	return doctor.Finding{}
}

func TestANaiveConfiguration(t *testing.T) {
	authgear := authgeartest.Start(t, authgeartest.Options{})
	service := proxytest.NewService(t, "AUTHGEAR_ENDPOINT="+authgear.Origin())
	service.Start()
	echo, front := startNginx(t, "naive.conf", "127.0.0.1:4180", service.Addr)
	token := authgear.OpaqueToken(authgear.AddUser(authgeartest.User{ID: "ada"}))
	expectFindings(t, examine(t, echo, doctor.Options{Token: token}, front+"/app/"),
		forgedTitle, aliasTitle, tunnelTitle, pathTitle)
}
