package main

import (
	"bytes"
	"context"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/valyala/fasthttp"

	"authgear-forward-auth/internal/authgeartest"
	"authgear-forward-auth/internal/lab"
)

// patience is how long the service lets a connection stand still, as watch.go has it, and
// some.
const patience = 13 * time.Second

var floods = []flood{
	{name: "opaque tokens, made up", wants: []int{401, 503}, asks: true, play: tokens((*lab.Forger).Opaque)},
	{name: "JWTs of unknown keys", wants: []int{401}, play: tokens((*lab.Forger).UnknownKey)},
	{name: "JWTs with bad signatures", wants: []int{401}, play: tokens((*lab.Forger).BadSignature)},
	{name: "cookies of 32 KiB", wants: []int{401}, play: hugeCookies},
	{name: "four credentials of 2 KiB, the longest that are no JWTs", wants: []int{401, 503}, asks: true, play: manyCredentials},
	{name: "webhooks with bad signatures", wants: []int{401}, play: badWebhooks},
	{name: "`/forget` by strangers", wants: []int{204}, play: forgetsByStrangers},
	{name: "`/forget` with one's own credential, and back", wants: []int{200, 204, 503}, unfair: true, play: forgetsOneself},
	{name: "policies, made up", wants: []int{403}, play: madeUpPolicies},
	{name: "pipelined requests", wants: []int{200, 401}, play: pipelined},
	{name: "connections that come and go", wants: []int{401}, play: churn},
	{name: "idle connections", wants: []int{401}, play: idleConnections},
	{name: "fields that come slowly", wants: []int{0}, least: patience, play: slowly("GET /nginx HTTP/1.1\r\nHost: auth\r\nCookie: session=")},
	{name: "webhooks whose body comes slowly", wants: []int{0}, least: patience, play: slowly("POST /hooks/authgear HTTP/1.1\r\nHost: auth\r\nContent-Length: 60000\r\n\r\n")},
	{name: "the same, behind another request", wants: []int{0}, least: patience, play: slowly(visitor + "POST /hooks/authgear HTTP/1.1\r\nHost: auth\r\nContent-Length: 60000\r\n\r\n")},
	{name: "clients who do not read", wants: []int{0}, least: patience, play: unread},
}

// hammer sends one request after the other from many clients. prepare makes the i-th one;
// it may return what notes the answer, if that is more than the status.
func (st *stand) hammer(ctx context.Context, s *strangers, prepare func(i int64, req *fasthttp.Request) (judge func(*fasthttp.Response))) error {
	client := &fasthttp.HostClient{Addr: st.service.Addr, MaxConns: s.clients, MaxIdemponentCallAttempts: 1}
	defer client.CloseIdleConnections()
	var all sync.WaitGroup
	var last atomic.Int64
	for range s.clients {
		all.Go(func() {
			req, resp := fasthttp.AcquireRequest(), fasthttp.AcquireResponse()
			defer fasthttp.ReleaseRequest(req)
			defer fasthttp.ReleaseResponse(resp)
			for ctx.Err() == nil {
				req.Reset()
				req.SetRequestURI("http://" + st.service.Addr + "/nginx")
				judge := prepare(last.Add(1), req)
				if err := client.DoTimeout(req, resp, lab.MostPatience); err != nil {
					s.problem("no answer: %v", err)
					continue
				}
				if judge == nil {
					s.got(resp.StatusCode())
				} else {
					judge(resp)
				}
			}
		})
	}
	all.Wait()
	return nil
}

func tokens(make func(*lab.Forger, int64) string) func(context.Context, *stand, *strangers) error {
	return func(ctx context.Context, st *stand, s *strangers) error {
		forger := lab.NewForger(st.authgear)
		return st.hammer(ctx, s, func(i int64, req *fasthttp.Request) func(*fasthttp.Response) {
			req.Header.Set("Authorization", "Bearer "+make(forger, i))
			return nil
		})
	}
}

func hugeCookies(ctx context.Context, st *stand, s *strangers) error {
	padding, salt := strings.Repeat("x", 31<<10), rand.Uint64()
	return st.hammer(ctx, s, func(i int64, req *fasthttp.Request) func(*fasthttp.Response) {
		req.Header.Set("Cookie", fmt.Sprintf("session=%x.%d.%s", salt, i, padding))
		return nil
	})
}

// manyCredentials are as long as resolver/credentials.go takes what is no JWT, in each place.
func manyCredentials(ctx context.Context, st *stand, s *strangers) error {
	padding, salt := strings.Repeat("x", 2<<10), rand.Uint64()
	return st.hammer(ctx, s, func(i int64, req *fasthttp.Request) func(*fasthttp.Response) {
		one := fmt.Sprintf("%d.%x.%s", i, salt, padding)[:2<<10]
		req.Header.Set("Authorization", "Bearer "+one)
		req.Header.Set("Cookie", "app_session="+one+"; app_access_token="+one+"; session="+one)
		return nil
	})
}

func badWebhooks(ctx context.Context, st *stand, s *strangers) error {
	small, large := bytes.Repeat([]byte("x"), 2<<10), bytes.Repeat([]byte("x"), 64<<10)
	return st.hammer(ctx, s, func(i int64, req *fasthttp.Request) func(*fasthttp.Response) {
		req.SetRequestURI("http://" + st.service.Addr + "/hooks/authgear")
		req.Header.SetMethod("POST")
		req.Header.Set("x-authgear-body-signature", fmt.Sprintf("%064x", i))
		req.SetBody(small)
		if i%16 == 0 {
			req.SetBody(large)
		}
		return nil
	})
}

func forget(st *stand, req *fasthttp.Request, credential string) {
	req.SetRequestURI("http://" + st.service.Addr + "/forget")
	req.Header.SetMethod("POST")
	req.Header.Set("Authorization", "Bearer "+credential)
}

func forgetsByStrangers(ctx context.Context, st *stand, s *strangers) error {
	forger := lab.NewForger(st.authgear)
	return st.hammer(ctx, s, func(i int64, req *fasthttp.Request) func(*fasthttp.Response) {
		forget(st, req, forger.Token(i))
		return nil
	})
}

// forgetsOneself makes each second request a question, and most of these go to Authgear.
func forgetsOneself(ctx context.Context, st *stand, s *strangers) error {
	who := st.authgear.SignInAs(1, authgeartest.User{})
	return st.hammer(ctx, s, func(i int64, req *fasthttp.Request) func(*fasthttp.Response) {
		if i%2 == 0 {
			forget(st, req, who.Credential)
			return nil
		}
		req.Header.Set(who.Field, who.Value)
		return isOf(s, who)
	})
}

func isOf(s *strangers, who *lab.Session) func(*fasthttp.Response) {
	return func(resp *fasthttp.Response) {
		s.got(resp.StatusCode())
		if got := string(resp.Header.Peek("X-Authgear-User-Id")); resp.StatusCode() == 200 && got != who.User.ID {
			s.problem("a 200 names %q, not %q", got, who.User.ID)
		}
	}
}

func madeUpPolicies(ctx context.Context, st *stand, s *strangers) error {
	who := st.authgear.SignInAs(1, authgeartest.User{})
	st.service.Ask(who) // remembered from now on
	return st.hammer(ctx, s, func(i int64, req *fasthttp.Request) func(*fasthttp.Response) {
		req.SetRequestURI(fmt.Sprintf("http://%s/nginx?role=r%d", st.service.Addr, i))
		req.Header.Set(who.Field, who.Value)
		return func(resp *fasthttp.Response) { s.gotKnown(resp.StatusCode()) }
	})
}
