// Authgear-dev serves a small Authgear and an application that shows what it was
// handed, and prints what to try. It is for demonstrations; it guards nothing.
package main

import (
	"flag"
	"fmt"
	"log"
	"maps"
	"net/http"
	"slices"
	"strings"
	"time"

	"authgear-forward-auth/internal/authgeartest"
)

func main() {
	listen := flag.String("listen", "127.0.0.1:3000", "address of the Authgear")
	app := flag.String("app", "127.0.0.1:8000", "address of the application")
	try := flag.String("print", "http://127.0.0.1:8080", "where the proxy is, for the printed lines")
	flag.Parse()

	authgear := authgeartest.New(authgeartest.Options{Origin: "http://" + *listen})
	failed := make(chan error)
	go func() { failed <- http.ListenAndServe(*listen, authgear) }()
	go func() { failed <- http.ListenAndServe(*app, http.HandlerFunc(show)) }()
	printLines(authgear, *try)
	log.Fatal(<-failed)
}

// show answers with the identity that the application was handed.
func show(w http.ResponseWriter, r *http.Request) {
	fmt.Fprintf(w, "%s %s\n", r.Method, r.RequestURI)
	for _, name := range slices.Sorted(maps.Keys(r.Header)) {
		if strings.HasPrefix(name, "X-Authgear-") {
			fmt.Fprintf(w, "%s: %s\n", name, strings.Join(r.Header[name], ", "))
		}
	}
}

func printLines(s *authgeartest.Server, url string) {
	ada := s.AddUser(authgeartest.User{ID: "ada", Roles: []string{"admin", "editor"}, Verified: true, CanReauthenticate: true})
	bob := s.AddUser(authgeartest.User{ID: "bob"})
	expired := s.JWT(ada, func(_, claims map[string]any) { claims["exp"] = time.Now().Unix() - 3600 })
	line := func(what, args string) { fmt.Printf("# %s\ncurl -i %s%s\n\n", what, url, args) }
	token := func(t string) string { return " -H 'Authorization: Bearer " + t + "'" }
	line("no credential: 401", "/")
	line("a JWT: 200", "/"+token(s.JWT(ada)))
	line("an opaque token: 200", "/"+token(s.OpaqueToken(ada)))
	line("a session cookie: 200", "/ -b 'session="+s.SessionCookie(ada)+"'")
	line("an expired token: 401", "/"+token(expired))
	line("a user with the role on a route that asks for one: 200", "/admin/"+token(s.JWT(ada)))
	line("a user without the role: 403", "/admin/"+token(s.JWT(bob)))
}
