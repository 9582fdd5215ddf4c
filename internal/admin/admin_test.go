package admin

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"regexp"
	"strings"
	"testing"

	"github.com/valyala/fasthttp"

	"authgear-forward-auth/internal/explain"
	"authgear-forward-auth/internal/forwardauth"
)

// serve answers a request: "GET /path", and fields.
func serve(line, body string, fields ...string) *fasthttp.Response {
	s := &Service{
		Missing: func() []string { return nil },
		Remarks: func() []string { return nil },
		KeyIDs:  func() []string { return nil },
		Denials: func() []*forwardauth.Decision { return nil },
		Metrics: func(ctx *fasthttp.RequestCtx) { ctx.SetBodyString("metrics") },
		Explain: (&explain.Explainer{}).Explain,
	}
	method, target, _ := strings.Cut(line, " ")
	var ctx fasthttp.RequestCtx
	ctx.Request.Header.SetMethod(method)
	ctx.Request.SetRequestURI(target)
	ctx.Request.Header.SetHost("127.0.0.1:4181")
	ctx.Request.SetBodyString(body)
	for _, f := range fields {
		name, value, _ := strings.Cut(f, ": ")
		ctx.Request.Header.Set(name, value)
	}
	s.Handler(&ctx)
	return &ctx.Response
}

// A browser that reaches the listener may be told to ask by a page of a stranger.
func TestAStrangersPageIsNotAnswered(t *testing.T) {
	for _, tt := range []struct {
		name, line string
		fields     []string
		want       int
	}{
		{"by the address", "GET /status", nil, 200},
		{"the page itself asks", "GET /status", []string{"Sec-Fetch-Site: same-origin"}, 200},
		{"typed into the browser", "GET /status", []string{"Sec-Fetch-Site: none"}, 200},
		{"localhost", "GET /status", []string{"Host: localhost:4181"}, 200},
		{"the name of a container", "GET /status", []string{"Host: auth:4181"}, 200},
		{"in the cluster", "GET /status", []string{"Host: auth.prod.svc.cluster.local:4181"}, 200},
		{"by IPv6", "GET /status", []string{"Host: [::1]:4181"}, 200},
		{"a page of another site", "GET /status", []string{"Sec-Fetch-Site: cross-site"}, 403},
		{"a page of a name beside it", "GET /status", []string{"Sec-Fetch-Site: same-site"}, 403},
		{"an older browser, another origin", "GET /status", []string{"Origin: https://stranger.example"}, 403},
		{"an older browser, no origin", "GET /status", []string{"Origin: null"}, 403},
		{"an older browser, an origin that cannot be read", "GET /status", []string{"Origin: http://[::1"}, 403},
		{"localhost, with its last dot", "GET /status", []string{"Host: localhost.:4181"}, 200},
		{"a name that ends as ours do, but for the dot", "GET /status", []string{"Host: not-cluster.local:4181"}, 403},
		{"a name that leads here (DNS rebinding)", "GET /status", []string{"Host: stranger.example:4181"}, 403},
		{"the same, with its own origin", "GET /status", []string{"Host: stranger.example:4181", "Origin: http://stranger.example:4181"}, 403},
		{"explain from another site", "POST /explain", []string{"Sec-Fetch-Site: cross-site"}, 403},
		{"explain by rebinding", "POST /explain", []string{"Host: stranger.example"}, 403},
		{"profiles by rebinding", "GET /debug/pprof/cmdline", []string{"Host: stranger.example"}, 403},
		{"a probe by any name", "GET /healthz", []string{"Host: probe.example"}, 200},
		{"readiness by any name", "GET /readyz", []string{"Host: probe.example"}, 200},
		{"Prometheus by any name", "GET /metrics", []string{"Host: metrics.example"}, 200},
		{"metrics from another site", "GET /metrics", []string{"Sec-Fetch-Site: cross-site"}, 403},
		{"explain is asked, not fetched", "GET /explain", nil, 405},
		{"no such path", "GET /nothing", nil, 404},
		{"another spelling, for which no body is read", "POST //explain", nil, 404},
		{"another spelling of the page", "GET //", nil, 404},
		{"a way round", "GET /debug/pprof/../../metrics", nil, 404},
		{"the list of profiles", "GET /debug/pprof/", nil, 200},
		{"the list of profiles, to a stranger", "GET /debug/pprof/", []string{"Host: stranger.example"}, 403},
		{"the list of profiles, without the slash", "GET /debug/pprof", nil, 301},
	} {
		t.Run(tt.name, func(t *testing.T) {
			resp := serve(tt.line, "", tt.fields...)
			if resp.StatusCode() != tt.want {
				t.Errorf("status %d, want %d: %s", resp.StatusCode(), tt.want, resp.Body())
			}
			if v := resp.Header.Peek("Access-Control-Allow-Origin"); v != nil {
				t.Errorf("another origin may read it: %s", v)
			}
			for name, want := range map[string]string{"X-Content-Type-Options": "nosniff", "Cache-Control": "no-store", "Referrer-Policy": "no-referrer", "Cross-Origin-Resource-Policy": "same-origin"} {
				if got := string(resp.Header.Peek(name)); got != want {
					t.Errorf("%s: %q, want %q", name, got, want)
				}
			}
		})
	}
}

func TestTheListOfProfilesLeadsToEach(t *testing.T) {
	body := serve("GET /debug/pprof/", "").Body()
	for _, name := range []string{"goroutine", "heap", "profile"} {
		if !strings.Contains(string(body), "<a href='"+name+"?") {
			t.Errorf("there is no %s in %s", name, body)
		}
	}
	if resp := serve("GET /debug/pprof/goroutine?debug=1", ""); !strings.HasPrefix(string(resp.Body()), "goroutine profile: ") {
		t.Errorf("status %d: %.100s", resp.StatusCode(), resp.Body())
	}
}

func TestThePageMayRunItsOwnScriptAlone(t *testing.T) {
	resp := serve("GET /", "")
	policy := string(resp.Header.Peek("Content-Security-Policy"))
	for _, element := range []string{"script", "style"} {
		found := regexp.MustCompile(`(?s)<`+element+`>(.*?)</`+element+`>`).FindAllSubmatch(resp.Body(), -1)
		if len(found) != 1 {
			t.Fatalf("%d elements %s", len(found), element)
		}
		sum := sha256.Sum256(found[0][1])
		if source := "'sha256-" + base64.StdEncoding.EncodeToString(sum[:]) + "'"; !strings.Contains(policy, element+"-src "+source) {
			t.Errorf("the policy lacks %s for %s: %s", source, element, policy)
		}
	}
	for _, part := range []string{"default-src 'none'", "connect-src 'self'", "frame-ancestors 'none'", "form-action 'none'", "base-uri 'none'"} {
		if !strings.Contains(policy, part) {
			t.Errorf("the policy lacks %s: %s", part, policy)
		}
	}
	if strings.Contains(policy, "unsafe") || regexp.MustCompile(`(?i)(src|href)="?(https?:)?//`).Match(resp.Body()) {
		t.Errorf("the page asks elsewhere, or may do what is unsafe: %s", policy)
	}
}

func TestStatusHasListsAlways(t *testing.T) {
	var status map[string]json.RawMessage
	if err := json.Unmarshal(serve("GET /status", "").Body(), &status); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"missing", "remarks", "key_ids", "denials"} {
		if string(status[name]) != "[]" {
			t.Errorf("%s is %s, want []", name, status[name])
		}
	}
}
