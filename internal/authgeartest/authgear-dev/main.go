// Command authgear-dev runs the small Authgear of package authgeartest, and
// unless told not to an upstream that tells what it was handed, for trying the
// companion by hand. It prints curl lines to paste.
package main

import (
	"context"
	"flag"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"os"
	"os/signal"
	"slices"
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
	flag.StringVar(&f.listen, "listen", "127.0.0.1:3000", "`address` of the Authgear")
	flag.StringVar(&f.origin, "origin", "", "public origin (default http://<listen>)")
	flag.StringVar(&f.app, "app", "127.0.0.1:8000", "`address` of an upstream that echoes its request; empty for none")
	flag.StringVar(&f.print, "print", "http://127.0.0.1:8080", "`URL` of the protected site in the printed curl lines")
	flag.Parse()
	if f.origin == "" {
		f.origin = "http://" + f.listen
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, f, os.Stdout); err != nil {
		log.Fatal(err)
	}
}

// run serves until ctx ends or a server fails.
func run(ctx context.Context, f flags, out io.Writer) error {
	authgear := authgeartest.New(authgeartest.Options{Origin: f.origin})
	failed := make(chan error, 2)
	stop, err := serve(f.listen, authgear, failed)
	if err != nil {
		return err
	}
	defer stop()
	if f.app != "" {
		stopApp, err := serve(f.app, http.HandlerFunc(echo), failed)
		if err != nil {
			return err
		}
		defer stopApp()
	}
	printCases(out, authgear, strings.TrimSuffix(f.print, "/"))
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

// printCases prints a curl line for each kind of credential.
func printCases(out io.Writer, s *authgeartest.Server, base string) {
	ada := s.AddUser(authgeartest.User{ID: "ada", Verified: true, CanReauthenticate: true, Roles: []string{"admin", "editor"}})
	bob := s.AddUser(authgeartest.User{ID: "bob", CanReauthenticate: true})
	expired := s.JWT(ada, func(_, claims map[string]any) {
		claims["iat"] = time.Now().Add(-time.Hour).Unix()
		claims["exp"] = time.Now().Add(-time.Minute).Unix()
	})
	line := func(status int, what, path, field string) {
		if field != "" {
			field = "-H '" + field + "' "
		}
		_, _ = fmt.Fprintf(out, "# %d: %s\ncurl -i %s'%s%s'\n", status, what, field, base, path)
	}
	line(401, "no credential", "/", "")
	line(200, "JWT access token of ada", "/", "Authorization: Bearer "+s.JWT(ada))
	line(200, "opaque access token of ada", "/", "Authorization: Bearer "+s.OpaqueToken(ada))
	line(200, "session cookie of ada", "/", "Cookie: session="+s.SessionCookie(ada))
	line(401, "expired JWT of ada", "/", "Authorization: Bearer "+expired)
	line(200, "ada, who has role admin", "/admin/", "Authorization: Bearer "+s.JWT(ada))
	line(403, "bob, who has not", "/admin/", "Authorization: Bearer "+s.JWT(bob))
}
