package page_test

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"authgear-forward-auth/internal/authgeartest"
	"authgear-forward-auth/internal/proxytest"
)

// A stand is a service with an Authgear.
type stand struct {
	*proxytest.Service
	t        testing.TB
	authgear *authgeartest.Server
	page     string // its address
}

func start(t testing.TB, settings ...string) *stand {
	t.Helper()
	authgear := authgeartest.Start(t, authgeartest.Options{})
	return with(t, authgear, settings...)
}

func with(t testing.TB, authgear *authgeartest.Server, settings ...string) *stand {
	t.Helper()
	s := &stand{t: t, authgear: authgear, Service: proxytest.NewService(t, append(settings, "AUTHGEAR_ENDPOINT="+authgear.Origin())...)}
	s.Start()
	s.page = "http://" + s.Admin + "/"
	return s
}

// ask sends the question of an nginx about a request, with the credential of an
// Authorization field, and returns the status of the answer.
func (s *stand) ask(policy, original, token string) int {
	s.t.Helper()
	status, err := s.tryAsk(policy, original, token)
	if err != nil {
		s.t.Fatal(err)
	}
	return status
}

func (s *stand) tryAsk(policy, original, token string) (int, error) {
	req, err := http.NewRequest("GET", "http://"+s.Addr+"/nginx?"+policy, nil)
	if err != nil {
		return 0, err
	}
	req.Header.Set("X-Original-Url", original)
	req.Header.Set("X-Original-Method", "GET")
	if token != "" {
		req.Header.Set("Authorization", "Bearer "+token)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return 0, err
	}
	defer resp.Body.Close()
	_, err = io.Copy(io.Discard, resp.Body)
	return resp.StatusCode, err
}

// expired returns a token that was good a minute ago.
func (s *stand) expired(u *authgeartest.User) string {
	return s.authgear.JWT(u, func(_, claims map[string]any) {
		claims["iat"] = time.Now().Add(-time.Hour).Unix()
		claims["exp"] = time.Now().Add(-time.Minute).Unix()
	})
}

// far is an Authgear that is some way off: each of its answers takes so long.
func far(t testing.TB, takes func() time.Duration) *authgeartest.Server {
	t.Helper()
	addr := proxytest.FreeAddr(t)
	authgear := authgeartest.New(authgeartest.Options{Origin: "http://" + addr})
	l, err := net.Listen("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	server := &httptest.Server{Listener: l, Config: &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		time.Sleep(takes())
		authgear.ServeHTTP(w, r)
	})}}
	server.Start()
	t.Cleanup(server.Close)
	return authgear
}

// traffic is asked until ctx ends, so often in a second.
func (s *stand) traffic(ctx context.Context, perSecond func(elapsed time.Duration) int, one func(n int) (policy, original, token string)) error {
	begin, n := time.Now(), 0
	for ctx.Err() == nil {
		for range max(1, perSecond(time.Since(begin))/20) {
			n++
			if _, err := s.tryAsk(one(n)); err != nil {
				return errors.Join(err, ctx.Err())
			}
		}
		select {
		case <-ctx.Done():
		case <-time.After(50 * time.Millisecond):
		}
	}
	return nil
}
