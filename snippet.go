package main

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"os"
	"strings"

	"authgear-forward-auth/caddy"
	"authgear-forward-auth/envoy"
	"authgear-forward-auth/haproxy"
	"authgear-forward-auth/internal/policy"
	"authgear-forward-auth/internal/snippet"
	"authgear-forward-auth/nginx"
	"authgear-forward-auth/traefik"
)

const snippetUsage = `Prints the configuration of a proxy for the settings in force.

Usage: authgear-forward-auth snippet nginx|traefik|caddy|envoy|haproxy [flags]

traefik and haproxy have two files; traefik/dynamic.yml names one.

Flags:
`

// printSnippet prints the configuration that we ship for a proxy, as it is for the
// settings in force.
func printSnippet(args []string, stdout, stderr io.Writer) error {
	var set settings
	problems := append(set.read(), set.check()...)
	for _, hint := range unknownSettings(os.Environ()) {
		fmt.Fprintln(stderr, hint)
	}
	if len(problems) > 0 {
		return fmt.Errorf("settings:\n%w", errors.Join(problems...))
	}
	setup := snippet.Setup{CookiePrefix: string(set.CookiePrefix), ProxyCache: set.ProxyCache > 0}
	flags := flag.NewFlagSet("snippet", flag.ContinueOnError)
	flags.SetOutput(io.Discard)
	flags.StringVar(&setup.Service, "service", near(set.Listen), "where the proxy reaches this service: `host:port` or unix:/path.sock (from AUTHGEAR_LISTEN)")
	flags.StringVar(&setup.App, "app", snippet.Shipped.App, "where it reaches the application: `host:port`")
	flags.StringVar(&setup.Policy, "policy", "", "who may pass what has no location of its own: a `query` such as 'role=staff&verified'")
	flags.StringVar(&setup.SignIn, "sign-in", "", "the `path` of the application to which browsers are sent to sign in, such as /login")
	err := flags.Parse(args)
	name := flags.Arg(0)
	if err == nil && name != "" {
		err = flags.Parse(flags.Args()[1:])
	}
	switch {
	case errors.Is(err, flag.ErrHelp):
		fmt.Fprint(stdout, snippetUsage)
		flags.SetOutput(stdout)
		flags.PrintDefaults()
		return nil
	case err != nil:
		return err
	case name == "":
		return errors.New("snippet of which proxy: nginx, traefik, caddy, envoy or haproxy?")
	case flags.NArg() > 0:
		return fmt.Errorf("snippet of one proxy at a time: %q is too much", flags.Arg(0))
	}
	rule, err := policy.Parse(strings.TrimPrefix(setup.Query(), "?"))
	if err == nil {
		err = set.Mode.allows(rule)
	}
	if err != nil {
		return fmt.Errorf("-policy, -sign-in: %w", err)
	}
	if setup.SignIn != "" && rule.SignIn != setup.SignIn { // the rest of it would be policy
		return fmt.Errorf("-sign-in: must be a path such as /login, without &, %% and +, not %q", setup.SignIn)
	}
	if set.TLSCert != "" {
		fmt.Fprintln(stderr, "AUTHGEAR_TLS_CERT is set, but what is printed asks without TLS: docs/running.md has what to change")
	}
	return printFiles(stdout, name, setup)
}

func printFiles(stdout io.Writer, name string, setup snippet.Setup) error {
	proxy, one, _ := strings.Cut(name, "/")
	config, ok := map[string]snippet.Config{
		"nginx": nginx.Config, "traefik": traefik.Config, "caddy": caddy.Config, "envoy": envoy.Config, "haproxy": haproxy.Config,
	}[proxy]
	if !ok {
		return fmt.Errorf("unknown proxy %q: nginx, traefik, caddy, envoy or haproxy?", proxy)
	}
	files, err := config.Make(setup)
	if err != nil {
		return fmt.Errorf("%s: %w", proxy, err)
	}
	found := false
	for _, f := range files {
		if one != "" && one != f.Name {
			continue
		}
		if found = true; one == "" && len(files) > 1 {
			fmt.Fprintf(stdout, "==> %s/%s <==\n", proxy, f.Name)
		}
		fmt.Fprint(stdout, f.Text)
	}
	if !found {
		return fmt.Errorf("%s has no file %q", proxy, one)
	}
	return nil
}

// near is a listener's address as one asks who is on the same machine.
func near(listen address) string {
	host, port, err := net.SplitHostPort(string(listen))
	if ip := net.ParseIP(host); err != nil || host != "" && (ip == nil || !ip.IsUnspecified()) {
		return string(listen)
	}
	return "127.0.0.1:" + port
}
