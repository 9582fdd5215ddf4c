// Authgear-forward-auth stands beside a reverse proxy and answers one question
// for each request that the proxy holds back: may it pass, and who sent it?
package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/signal"
	"slices"
	"syscall"
	"time"

	"github.com/rs/zerolog"
	"github.com/valyala/fasthttp"

	"authgear-forward-auth/cache"
	"authgear-forward-auth/caddy"
	"authgear-forward-auth/envoy"
	"authgear-forward-auth/haproxy"
	"authgear-forward-auth/internal/fleet"
	"authgear-forward-auth/internal/forwardauth"
	"authgear-forward-auth/internal/metrics"
	"authgear-forward-auth/internal/webhook"
	"authgear-forward-auth/nginx"
	"authgear-forward-auth/resolver"
	"authgear-forward-auth/traefik"
)

const usage = `authgear-forward-auth answers a reverse proxy: may this request pass, and who sent it?

Usage:
  authgear-forward-auth              serve (also: serve)
  authgear-forward-auth check        tell whether the settings fit Authgear; 1 if not (check -h tells more)
  authgear-forward-auth explain      tell why a credential passes or not (explain -h tells more)
  authgear-forward-auth snippet      print the configuration of a proxy: nginx, traefik, caddy, envoy or haproxy
  authgear-forward-auth doctor URL   find the holes of a proxy (doctor -h tells more)
  authgear-forward-auth healthcheck  exit 0 if the service on this machine is alive
  authgear-forward-auth version      print the version
  authgear-forward-auth help         print this

It is set up by AUTHGEAR_* environment variables; AUTHGEAR_ENDPOINT is required.
`

// alone are the commands that take no arguments.
var alone = []string{"serve", "healthcheck", "version", "-version", "--version", "help", "-help", "--help", "-h"}

// version is stamped at build time.
var version = "dev"

func main() {
	signaled, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	ctx, cancel := context.WithCancel(context.Background())
	context.AfterFunc(signaled, func() {
		stop() // a second signal ends it at once
		cancel()
	})
	if err := run(ctx, os.Args[1:], os.Stdout, os.Stderr); err != nil {
		if err != errDenied {
			fmt.Fprintln(newPatient(os.Stderr), err)
		}
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string, stdout, stderr io.Writer) error {
	noCore := leaveNoCore() // before anything is read: explain and check have credentials, too
	command := "serve"
	if len(args) > 0 {
		command = args[0]
	}
	if len(args) > 1 && slices.Contains(alone, command) { // which are not told: there may be a secret among them
		return fmt.Errorf("%s takes no arguments\n\n%s", command, usage)
	}
	switch command {
	case "serve":
		return serve(ctx, stderr, noCore)
	case "check":
		return inspect(ctx, args[1:], stdout, stderr)
	case "explain":
		return explainCommand(ctx, args[1:], os.Stdin, stdout)
	case "snippet":
		return printSnippet(args[1:], stdout, stderr)
	case "doctor":
		return diagnose(ctx, args[1:], stdout, stderr)
	case "healthcheck":
		return healthcheck()
	case "version", "-version", "--version":
		fmt.Fprintln(stdout, version)
	case "help", "-help", "--help", "-h":
		fmt.Fprint(stdout, usage)
	default:
		return fmt.Errorf("unknown command %q\n\n%s", command, usage)
	}
	return nil
}

func serve(ctx context.Context, stderr io.Writer, noCore error) error {
	hangup := hangups() // first: until then one would end the process
	set, err := load()
	log := newLogger(set, stderr)
	certs, unread := loadCertificates(set, log)
	if err := errors.Join(err, unread); err != nil {
		return fmt.Errorf("settings:\n%w", err)
	}
	for _, warning := range unknownSettings(os.Environ()) {
		log.Warn().Msg(warning)
	}
	if noCore != nil {
		log.Warn().Err(noCore).Msg("a crash may leave a core dump, which holds credentials")
	}

	service, err := assemble(set, log)
	if err != nil {
		return err
	}
	gate := service.gate
	paths := routes{
		"/nginx":     gate.Handler(nginx.Dialect),
		"/traefik":   gate.Handler(traefik.Dialect),
		"/caddy":     gate.Handler(caddy.Dialect),
		"/haproxy":   gate.Handler(haproxy.Dialect),
		envoy.Prefix: gate.Handler(envoy.Dialect),
	}

	// Who has left? The application tells, and Authgear's events.
	paths["/forget"] = gate.Forget(service.sessions.forget)
	signed := newSecretsInForce(set.WebhookSecret)
	var events forwardauth.Body
	if len(set.WebhookSecret) > 0 {
		received := service.received()
		paths[hookPath] = webhook.Handler(signed.get, service.sessions.forgetUser, received)
		events = forwardauth.Body{Path: hookPath, Most: webhook.MaxBody, TooLong: webhook.TooLong(received)}
	}

	// What changes meanwhile? Files and keys, which are read again at SIGHUP.
	go reload(ctx, log, hangup, set.reread(signed, service.keys, certs))
	if set.Mode != resolverOnly {
		go service.keys.Run(ctx)
	}
	go tidyUp(ctx)
	if service.fleet != nil {
		service.fleet.Run(service.sessions.heard)
		defer service.close()
		service.fleet.Await(fleet.Beginning)
	}
	return listen(ctx, log, set, certs, paths.serve, events, service.operator(ctx).Handler)
}

// A service is all that decides, without the listeners.
type service struct {
	set      settings
	log      zerolog.Logger
	metrics  *metrics.Metrics
	keys     *resolver.Keys
	jwt      *resolver.JWT
	authgear *resolver.Guard
	fleet    *fleet.Fleet // nil: this replica is alone
	sessions sessions
	gate     *forwardauth.Gate
}

func assemble(set settings, log zerolog.Logger) (*service, error) {
	s := &service{set: set, log: log, metrics: metrics.New(version, set.confirms())}

	// Who is asking? The token tells, or Authgear does, or we remember.
	s.keys = resolver.NewKeys(set.Endpoint.String(), set.ResolverTimeout, s.fetched())
	s.jwt = &resolver.JWT{Issuer: set.Endpoint.String(), Audiences: set.Audiences, ClientIDs: set.ClientIDs, Skew: set.ClockSkew, Keys: s.keys}
	s.authgear = resolver.NewGuard(s.metrics.Resolver(resolver.NewRemote(resolver.RemoteOptions{
		Endpoint: set.Endpoint.URL, URL: set.ResolverURL.URL, CookiePrefix: string(set.CookiePrefix), Timeout: set.ResolverTimeout,
	})), warn(log, "no answer from Authgear"))
	var err error
	if s.fleet, err = set.joinFleet(warn(log, "fleet"), s.metrics.Fleet); err != nil {
		return nil, err
	}
	remembered, err := cache.New(set.remember(s.jwt, s.authgear, s.fleet))
	if err != nil {
		return nil, err
	}
	s.sessions = sessions{remembered, set.Mode, s.fleet}

	// May they pass? One gate, one dialect per proxy.
	s.gate = &forwardauth.Gate{
		Resolver:  s.sessions.forRule,
		Confirmed: s.sessions.confirmed,
		Reader:    resolver.NewReader(string(set.CookiePrefix), names(set.AccessTokenCookies)),
		Trusted:   forwardauth.Trusted(set.TrustedProxies),
		Log:       log,
		Decided:   forwardauth.Decisions(set.LogDecisions),
		Metrics:   s.metrics,

		ProxyCache:   set.ProxyCache,
		MaxStaleness: set.confirms(),
	}
	return s, nil
}

// hookPath is where Authgear sends its events.
const hookPath = "/hooks/authgear"

// routes are what the main listener serves. :: path → handler
type routes map[string]fasthttp.RequestHandler

// serve looks at the path as it stands. What follows Envoy's prefix is a client's;
// cleaned, /envoy/../nginx would be another path, and its query a policy.
func (r routes) serve(ctx *fasthttp.RequestCtx) {
	path, _, _ := bytes.Cut(ctx.RequestURI(), []byte("?"))
	if bytes.HasPrefix(path, []byte(envoy.Prefix)) {
		path = path[:len(envoy.Prefix)]
	}
	if handler := r[string(path)]; handler != nil {
		handler(ctx)
		return
	}
	ctx.SetStatusCode(fasthttp.StatusNotFound)
}

// healthcheck needs to know where to ask. What else is wrong with the settings is none of its
// business: the service goes on with what it has read.
func healthcheck() error {
	admin, err := adminListener()
	if err != nil {
		return fmt.Errorf("settings:\n%w", err)
	}
	client := fasthttp.Client{Dial: func(string) (net.Conn, error) { return dialListener(admin) }, MaxResponseBodySize: 1 << 10}
	status, body, err := client.GetTimeout(nil, "http://localhost/healthz", 2*time.Second)
	if err != nil {
		return fmt.Errorf("ask the admin listener at %s (AUTHGEAR_ADMIN_LISTEN): %w", admin, err)
	}
	if status != fasthttp.StatusOK || string(body) != "ok\n" {
		return fmt.Errorf("it is not the service that answers at %s, with status %d: is AUTHGEAR_ADMIN_LISTEN right, and does another process listen there?", admin, status)
	}
	return nil
}

func names(list []cookieName) (s []string) {
	for _, n := range list {
		s = append(s, string(n))
	}
	return s
}

// warn returns what logs a failure. Many at once are logged as a few.
func warn(log zerolog.Logger, what string) func(error) {
	log = log.Sample(&zerolog.BurstSampler{Burst: 5, Period: 10 * time.Second})
	return func(err error) { log.Warn().Err(err).Msg(what) }
}
