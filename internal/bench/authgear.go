//go:build linux

package main

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/valyala/fasthttp"

	"authgear-forward-auth/internal/authgeartest"
)

// The tokens and keys are those of the development Authgear. What is asked while
// something is measured is answered by one that costs next to nothing: it knows
// everybody.

const (
	roleNames = "admin,editor"
	unknown   = "unknown-" // begins a token that nobody knows
)

// sign returns n JWTs, each of another user, and the key set that they verify with.
func sign(origin string, n int) (tokens []string, jwks []byte) {
	server := authgeartest.New(authgeartest.Options{Origin: origin})
	tokens = make([]string, n)
	var all sync.WaitGroup
	var next atomic.Int64
	for range runtime.NumCPU() {
		all.Go(func() {
			for i := next.Add(1) - 1; i < int64(n); i = next.Add(1) - 1 {
				user := &authgeartest.User{ID: userID(int(i)), Roles: strings.Split(roleNames, ","), Verified: true, CanReauthenticate: true}
				tokens[i] = server.JWT(user, func(_, claims map[string]any) { claims["exp"] = time.Now().Add(24 * time.Hour).Unix() })
			}
		})
	}
	all.Wait()
	keys := httptest.NewRecorder()
	server.ServeHTTP(keys, httptest.NewRequest(http.MethodGet, origin+"/oauth2/jwks", nil))
	return tokens, keys.Body.Bytes()
}

// serveAuthgear answers at an address, with the key set of a file.
func serveAuthgear(args []string) error {
	jwks, err := os.ReadFile(args[1])
	if err != nil {
		return err
	}
	l, err := net.Listen("tcp", args[0])
	if err != nil {
		return err
	}
	server := fasthttp.Server{NoDefaultServerHeader: true, NoDefaultContentType: true, Handler: func(ctx *fasthttp.RequestCtx) {
		switch string(ctx.Path()) {
		case "/oauth2/jwks":
			ctx.SetContentType("application/json")
			ctx.SetBody(jwks)
		default:
			resolve(ctx)
		}
	}}
	return server.Serve(l)
}

func resolve(ctx *fasthttp.RequestCtx) {
	h := &ctx.Request.Header
	token, bearer := bytes.CutPrefix(h.Peek(fasthttp.HeaderAuthorization), []byte("Bearer "))
	var user string
	switch {
	case !bearer:
		user = string(h.Cookie("session")[:36])
	case bytes.HasPrefix(token, []byte(unknown)):
		return
	case bytes.Contains(token, []byte(".")):
		user = subject(token)
	default:
		user = userOf(string(token))
	}
	for _, field := range answer[1:] {
		switch field[0] {
		case "X-Authgear-User-Id":
			field[1] = user
		case "X-Authgear-Session-Amr", "X-Authgear-Client-Id", "X-Authgear-Scope": // Authgear tells none of these
			continue
		}
		ctx.Response.Header.Set(field[0], field[1])
	}
}

func subject(token []byte) string {
	var claims struct{ Sub string }
	text, err := base64.RawURLEncoding.DecodeString(string(bytes.Split(token, []byte("."))[1]))
	if err == nil {
		err = json.Unmarshal(text, &claims)
	}
	if err != nil {
		panic(fmt.Errorf("a JWT of our own: %w", err))
	}
	return claims.Sub
}
