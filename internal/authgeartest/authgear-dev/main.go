// Command authgear-dev runs the small Authgear of package authgeartest, and
// unless told not to an upstream that tells what it was handed, for trying the
// companion by hand. It prints curl lines to paste, and serves fresh ones at /demo.
//
// "authgear-dev healthcheck URL" exits 0 if the URL answers 200, for a container
// without a shell.
package main

import (
	"context"
	"flag"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/signal"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"authgear-forward-auth/internal/authgeartest"
)

type flags struct {
	listen, origin, app, print string
}

func main() {
	var f flags
	flag.StringVar(&f.listen, "listen", "127.0.0.1:3000", "`address` of the Authgear; empty for none")
	flag.StringVar(&f.origin, "origin", "", "public origin (default http://<listen>)")
	flag.StringVar(&f.app, "app", "127.0.0.1:8000", "`address` of an upstream that echoes its request; empty for none")
	flag.StringVar(&f.print, "print", "http://127.0.0.1:8080", "`URL` of the protected site in the printed curl lines")
	flag.Parse()
	if f.origin == "" {
		f.origin = "http://" + f.listen
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	if err := command(ctx, f, flag.Args()); err != nil {
		log.Fatal(err)
	}
}

func command(ctx context.Context, f flags, args []string) error {
	switch {
	case len(args) == 0:
		return run(ctx, f, os.Stdout)
	case len(args) == 2 && args[0] == "healthcheck":
		return healthcheck(ctx, args[1])
	}
	return fmt.Errorf("takes flags, or healthcheck and a URL, not %q", args)
}

// run serves until ctx ends or a server fails.
func run(ctx context.Context, f flags, out io.Writer) error {
	failed := make(chan error, 2)
	if f.app != "" {
		stop, err := serve(f.app, http.HandlerFunc(echo), failed)
		if err != nil {
			return err
		}
		defer stop()
	}
	if f.listen != "" {
		site, err := url.Parse(f.print)
		if err != nil {
			return fmt.Errorf("print: %w", err)
		}
		authgear := authgeartest.New(authgeartest.Options{Origin: f.origin})
		demo := newDemo(authgear, site)
		mux := http.NewServeMux()
		mux.Handle("/", authgear)
		mux.HandleFunc("GET /demo", demo.serve)
		stop, err := serve(f.listen, mux, failed)
		if err != nil {
			return err
		}
		defer stop()
		demo.print(out, site)
	}
	select {
	case <-ctx.Done():
		return nil
	case err := <-failed:
		return err
	}
}

// serve listens before it returns; stop ends the server.
func serve(addr string, h http.Handler, failed chan<- error) (stop func(), err error) {
	l, err := net.Listen("tcp", addr)
	if err != nil {
		return nil, err
	}
	srv := &http.Server{Handler: h, ReadHeaderTimeout: 10 * time.Second}
	go func() { failed <- srv.Serve(l) }()
	return func() { _ = srv.Close() }, nil
}

// echo tells the request line and the X-Authgear fields it was handed.
func echo(w http.ResponseWriter, r *http.Request) {
	var lines []string
	for name, values := range r.Header {
		if !strings.HasPrefix(name, "X-Authgear-") {
			continue
		}
		for _, v := range values {
			lines = append(lines, name+": "+v)
		}
	}
	slices.Sort(lines)
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	_, _ = fmt.Fprintf(w, "%s %s\n", r.Method, r.URL.RequestURI())
	for _, line := range lines {
		_, _ = fmt.Fprintln(w, line)
	}
}

// demo tells curl lines, for the users that it has made.
type demo struct {
	authgear *authgeartest.Server
	ada, bob *authgeartest.User
	site     *url.URL
}

func newDemo(s *authgeartest.Server, site *url.URL) demo {
	return demo{
		authgear: s,
		ada:      s.AddUser(authgeartest.User{ID: "ada", Verified: true, CanReauthenticate: true, Roles: []string{"admin", "editor"}}),
		bob:      s.AddUser(authgeartest.User{ID: "bob", CanReauthenticate: true}),
		site:     site,
	}
}

// serve tells lines with new tokens, since those of the start expire. With
// ?port=8081 they are for the site behind another proxy.
func (d demo) serve(w http.ResponseWriter, r *http.Request) {
	site := *d.site
	if port := r.FormValue("port"); port != "" {
		if _, err := strconv.ParseUint(port, 10, 16); err != nil {
			http.Error(w, "port: must be a number", http.StatusBadRequest)
			return
		}
		site.Host = net.JoinHostPort(site.Hostname(), port)
	}
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	d.print(w, &site)
}

// print tells a curl line for each kind of credential.
func (d demo) print(out io.Writer, site *url.URL) {
	s := d.authgear
	expired := s.JWT(d.ada, func(_, claims map[string]any) {
		claims["iat"] = time.Now().Add(-time.Hour).Unix()
		claims["exp"] = time.Now().Add(-time.Minute).Unix()
	})
	line := func(status int, what, path, field string) {
		if field != "" {
			field = "-H '" + field + "' "
		}
		_, _ = fmt.Fprintf(out, "# %d: %s\ncurl -i %s'%s'\n", status, what, field, site.JoinPath(path))
	}
	line(401, "no credential", "/", "")
	line(200, "JWT access token of ada", "/", "Authorization: Bearer "+s.JWT(d.ada))
	line(200, "opaque access token of ada", "/", "Authorization: Bearer "+s.OpaqueToken(d.ada))
	line(200, "session cookie of ada", "/", "Cookie: session="+s.SessionCookie(d.ada))
	line(401, "expired JWT of ada", "/", "Authorization: Bearer "+expired)
	line(200, "ada, who has role admin", "/admin/", "Authorization: Bearer "+s.JWT(d.ada))
	line(403, "bob, who has not", "/admin/", "Authorization: Bearer "+s.JWT(d.bob))
}

func healthcheck(ctx context.Context, address string) error {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, address, nil)
	if err != nil {
		return err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("%s answers %s", address, resp.Status)
	}
	return nil
}
