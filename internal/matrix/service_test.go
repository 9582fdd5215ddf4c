package matrix

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/rs/zerolog"
	"github.com/valyala/fasthttp"

	"authgear-forward-auth/cache"
	"authgear-forward-auth/internal/forwardauth"
	"authgear-forward-auth/internal/policy"
	"authgear-forward-auth/internal/webhook"
	"authgear-forward-auth/nginx"
	"authgear-forward-auth/resolver"
)

const secret = "a secret of the webhook"

// A service is what main makes of the settings, on a port of its own.
type service struct {
	url  string
	log  lastLine
	keys *resolver.Keys
}

func newService(t *testing.T, m mode, endpoint, authgearURL string) *service {
	ctx, cancel := context.WithCancel(context.Background())
	t.Cleanup(cancel)
	silent := func(error) {}
	keys := resolver.NewKeys(endpoint, timeout, silent)
	jwt := &resolver.JWT{Issuer: endpoint, Audiences: []string{endpoint}, Skew: 30 * time.Second, Keys: keys}
	authgear := resolver.NewGuard(resolver.NewRemote(resolver.RemoteOptions{
		Endpoint: parse(t, endpoint), URL: parse(t, authgearURL+"/_resolver/resolve"), Timeout: timeout}), silent)
	o := cache.Options{ConfirmFirst: m.confirmFirst, MaxStaleness: bound, OutageGrace: m.grace, Skew: jwt.Skew, Wait: 2 * timeout, Bytes: 1 << 20}
	if m.local {
		o.Local = jwt
		go keys.Run(ctx)
	}
	if m.remote {
		o.Authgear, o.Strangers = authgear, authgear.Strangers()
	}
	sessions, err := cache.New(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(sessions.Close)

	s := &service{keys: keys}
	gate := &forwardauth.Gate{
		Resolver: func(rule policy.Rule) (resolver.Resolver, error) {
			return &resolver.InTurn{Next: sessions.Within(rule.MaxStaleness), TogetherWithJWT: !m.local, Machine: rule.Machine}, nil
		},
		Reader:  resolver.NewReader("", nil),
		Trusted: forwardauth.Trusted{netip.MustParsePrefix("127.0.0.0/8")},
		Log:     zerolog.New(&s.log),
		Decided: forwardauth.All,
	}
	event := func(e webhook.Event) { sessions.ForgetUser(e.User, e.At, e.Ends, time.Now()) }
	s.serve(t, map[string]fasthttp.RequestHandler{
		"/nginx":          gate.Handler(nginx.Dialect),
		"/hooks/authgear": webhook.Handler(func() []string { return []string{secret} }, event, func(_, _ string) {}),
	})
	return s
}

func parse(t *testing.T, text string) *url.URL {
	u, err := url.Parse(text)
	if err != nil {
		t.Fatal(err)
	}
	return u
}

func (s *service) serve(t *testing.T, routes map[string]fasthttp.RequestHandler) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server := forwardauth.NewServer(func(ctx *fasthttp.RequestCtx) {
		if handler := routes[string(ctx.Path())]; handler != nil {
			handler(ctx)
		}
	}, forwardauth.Body{Path: "/hooks/authgear", Most: webhook.MaxBody})
	go server.Serve(l)
	t.Cleanup(func() { server.Shutdown() })
	s.url = "http://" + l.Addr().String()
}

// lastLine keeps the reason of the last decision that was logged.
type lastLine struct {
	mu     sync.Mutex
	reason string
}

func (l *lastLine) Write(b []byte) (int, error) {
	var line struct{ Reason string }
	if err := json.Unmarshal(b, &line); err != nil {
		return 0, err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.reason = line.Reason
	return len(b), nil
}

func (l *lastLine) last() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.reason
}

// awaitKeys waits as long as it does not know the keys, as one would by /readyz.
func (s *service) awaitKeys() {
	for end := time.Now().Add(patience); s.keys.Fetched().IsZero() && time.Now().Before(end); {
		time.Sleep(pace)
	}
}

// client is what stands for nginx. It waits longer than any answer takes.
var client = &http.Client{Timeout: time.Minute, Transport: &http.Transport{DisableKeepAlives: true}}

// A user has the role "signed" when a JWT is issued, "remembered" until the fault
// begins and "confirmed" after that: so the role in a 200 tells what it rests on.
const (
	signed     = "200 signed"
	remembered = "200 remembered"
	confirmed  = "200 confirmed"
)

// ask returns the status with the role of a 200, or the reason of another.
func (s *service) ask(token, user string) (outcome string, err error) {
	req, err := http.NewRequest("GET", s.url+"/nginx", nil)
	if err != nil {
		return "", err
	}
	req.Header.Set("Authorization", "Bearer "+token)
	resp, err := client.Do(req)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return fmt.Sprintf("%d %s", resp.StatusCode, s.log.last()), nil
	}
	if id := resp.Header.Get("X-Authgear-User-Id"); id != user {
		return "", fmt.Errorf("%s passes as %s", user, id)
	}
	return "200 " + resp.Header.Get("X-Authgear-User-Roles"), nil
}

// tell sends the service an event of the user, and looks whether it is taken.
func (s *service) tell(event, user string, isSigned bool) error {
	body := fmt.Sprintf(`{"id":%q,"type":%q,"payload":{"user":{"id":%q}},"context":{"timestamp":%d,"user_id":%q}}`,
		time.Now().String(), event, user, time.Now().Unix(), user)
	req, err := http.NewRequest("POST", s.url+"/hooks/authgear", strings.NewReader(body))
	if err != nil {
		return err
	}
	want := http.StatusUnauthorized
	if isSigned {
		mac := hmac.New(sha256.New, []byte(secret))
		mac.Write([]byte(body))
		req.Header.Set("x-authgear-body-signature", hex.EncodeToString(mac.Sum(nil)))
		want = http.StatusOK
	}
	resp, err := client.Do(req)
	if err != nil {
		return err
	}
	resp.Body.Close()
	if resp.StatusCode != want {
		return errors.New("the event is answered " + resp.Status)
	}
	return nil
}
