package main

import (
	"errors"
	"fmt"
	"os"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/dustin/go-humanize"
	"github.com/kelseyhightower/envconfig"
)

// settings are what the environment says. The comment of each one is what the README
// and docs/settings.md say that it means, in the same order; unset says there, in
// words, what it is when nothing is set.
type settings struct {
	// the public origin of the Authgear project; the issuer
	Endpoint origin `envconfig:"AUTHGEAR_ENDPOINT" unset:"required"`
	// where to ask; `Host` and `X-Forwarded-Proto` stay the endpoint's
	ResolverURL httpURL `envconfig:"AUTHGEAR_RESOLVER_URL" unset:"the endpoint and /_resolver/resolve"`
	// `hybrid`: JWTs are checked here and confirmed by Authgear, all else is asked there · `jwt`: the resolver is never asked, only JWTs pass
	// · `resolver`: it is asked about everything
	Mode mode `envconfig:"AUTHGEAR_MODE" default:"hybrid"`
	// hybrid only. `after`: a JWT seen for the first time is answered on its signature and confirmed right behind · `before`: it waits for
	// the confirmation
	Confirm confirm `envconfig:"AUTHGEAR_CONFIRM" default:"after"`
	// no 200 rests on a confirmation by Authgear older than this
	MaxStaleness time.Duration `envconfig:"AUTHGEAR_MAX_STALENESS" default:"30s"`
	// how much longer a confirmed session passes while Authgear cannot be reached
	OutageGrace time.Duration `envconfig:"AUTHGEAR_OUTAGE_GRACE" default:"0s"`
	// how long nginx may itself reuse a 200, always within the bound
	ProxyCache time.Duration `envconfig:"AUTHGEAR_PROXY_CACHE" default:"0s"`
	// accepted `aud` values of JWTs
	Audiences []string `envconfig:"AUTHGEAR_AUDIENCES" unset:"the endpoint"`
	// accepted `client_id` values of JWTs
	ClientIDs []string `envconfig:"AUTHGEAR_CLIENT_IDS" unset:"any"`
	// the project's `http.cookie_prefix`
	CookiePrefix cookieName `envconfig:"AUTHGEAR_COOKIE_PREFIX" unset:"empty"`
	// further cookies that hold an access token
	AccessTokenCookies []cookieName `envconfig:"AUTHGEAR_ACCESS_TOKEN_COOKIES" unset:"none"`
	// leeway for `exp`, `nbf`, `iat`
	ClockSkew time.Duration `envconfig:"AUTHGEAR_CLOCK_SKEW" default:"30s"`
	// how long one question to Authgear may take
	ResolverTimeout time.Duration `envconfig:"AUTHGEAR_RESOLVER_TIMEOUT" default:"2s"`
	// memory for remembered sessions
	CacheBytes byteSize `envconfig:"AUTHGEAR_CACHE_BYTES" default:"64MiB"`
	// the secret of Authgear's webhooks; two while it is being changed
	WebhookSecret secrets `envconfig:"AUTHGEAR_WEBHOOK_SECRET" unset:"off"`
	// a Redis by which replicas share what Authgear told them
	RedisURL secret `envconfig:"AUTHGEAR_REDIS_URL" unset:"off"`
	// a secret that the replicas have and Redis has not; required with it
	FleetSecret secret `envconfig:"AUTHGEAR_FLEET_SECRET" unset:"off"`
	// peers whose `X-Forwarded-*` and `X-Original-*` are believed
	TrustedProxies prefixes `envconfig:"AUTHGEAR_TRUSTED_PROXIES" default:"127.0.0.0/8,::1/128,10.0.0.0/8,172.16.0.0/12,192.168.0.0/16,fc00::/7" unset:"loopback and private ranges"`
	// where proxies ask
	Listen address `envconfig:"AUTHGEAR_LISTEN" default:":4180"`
	// for you, not for clients: the status page, `/healthz`, `/readyz`, `/metrics`, `/status`, `/explain`, `/debug/pprof/`
	AdminListen address `envconfig:"AUTHGEAR_ADMIN_LISTEN" default:"127.0.0.1:4181"`
	// a file with the certificate of the main listener, and those between it and its CA
	TLSCert string `envconfig:"AUTHGEAR_TLS_CERT" unset:"off"`
	// a file with the key of that certificate
	TLSKey string `envconfig:"AUTHGEAR_TLS_KEY" unset:"off"`
	// a file with the CA that must have signed the certificate of whoever asks
	TLSClientCA string `envconfig:"AUTHGEAR_TLS_CLIENT_CA" unset:"off"`
	// how long it goes on serving when it is told to stop, while `/readyz` answers 503
	DrainDelay time.Duration `envconfig:"AUTHGEAR_DRAIN_DELAY" default:"0s"`
	// the least that is logged: `trace`, `debug`, `info`, `warn`, `error`, `disabled`
	LogLevel logLevel `envconfig:"AUTHGEAR_LOG_LEVEL" default:"info"`
	// `json` or `console`
	LogFormat logFormat `envconfig:"AUTHGEAR_LOG_FORMAT" default:"json"`
	// which decisions are logged: `denied` (50 in a second at most), `all` or `none`
	LogDecisions decisions `envconfig:"AUTHGEAR_LOG_DECISIONS" default:"denied"`
}

// load reads the settings and reports all problems together, each with the
// variable and the cure.
func load() (settings, error) {
	var s settings
	var problems []error
	if trim(os.Getenv("AUTHGEAR_ENDPOINT")) == "" {
		problems = append(problems, errors.New("AUTHGEAR_ENDPOINT: is required: the public origin of the Authgear project, such as https://myapp.authgear.cloud"))
	}
	problems = append(problems, s.read()...)
	problems = append(problems, s.check()...)
	if memory := memoryLimit(); memory > 0 && uint64(s.CacheBytes) > memory {
		problems = append(problems, fmt.Errorf("AUTHGEAR_CACHE_BYTES: %s is more than this machine or container has, which is %s",
			humanize.IBytes(uint64(s.CacheBytes)), humanize.IBytes(memory)))
	}
	if s.Endpoint.URL == nil || len(problems) > 0 {
		for _, hint := range unknownSettings(os.Environ()) { // a slip may be why one is missing
			problems = append(problems, errors.New(hint))
		}
		return s, errors.Join(problems...)
	}
	if s.ResolverURL.URL == nil {
		s.ResolverURL.URL = s.Endpoint.JoinPath("/_resolver/resolve")
	}
	if len(s.Audiences) == 0 {
		s.Audiences = []string{s.Endpoint.String()}
	}
	return s, nil
}

// adminListener reads where the admin listener is, whatever is wrong with the rest.
func adminListener() (address, error) {
	var s settings
	for _, problem := range s.read() {
		if strings.HasPrefix(problem.Error(), "AUTHGEAR_ADMIN_LISTEN:") {
			return "", problem
		}
	}
	return s.AdminListen, nil
}

// check looks at what each setting alone cannot know.
func (s *settings) check() (problems []error) {
	problem := func(name, cure string, args ...any) {
		problems = append(problems, fmt.Errorf("%s: %s", name, fmt.Sprintf(cure, args...)))
	}
	if s.MaxStaleness < time.Second || s.MaxStaleness > 24*time.Hour {
		problem("AUTHGEAR_MAX_STALENESS", "must be between 1s and 24h, not %s", s.MaxStaleness)
	}
	if s.OutageGrace < 0 || s.OutageGrace > 24*time.Hour {
		problem("AUTHGEAR_OUTAGE_GRACE", "must be between 0s and 24h, not %s", s.OutageGrace)
	}
	if s.ProxyCache != 0 && (s.ProxyCache < time.Second || s.ProxyCache > s.MaxStaleness) {
		problem("AUTHGEAR_PROXY_CACHE", "must be 0s, or between 1s and AUTHGEAR_MAX_STALENESS (%s), not %s", s.MaxStaleness, s.ProxyCache)
	}
	if s.ClockSkew < 0 || s.ClockSkew > 10*time.Minute {
		problem("AUTHGEAR_CLOCK_SKEW", "must be between 0s and 10m, not %s", s.ClockSkew)
	}
	if s.ResolverTimeout < 10*time.Millisecond || s.ResolverTimeout > time.Minute {
		problem("AUTHGEAR_RESOLVER_TIMEOUT", "must be between 10ms and 1m, not %s", s.ResolverTimeout)
	}
	const noEffect = "has no effect with AUTHGEAR_MODE=resolver, where nothing is known of a token but what Authgear's resolver tells: unset it, or take hybrid"
	if s.Mode == resolverOnly && len(s.Audiences) > 0 {
		problem("AUTHGEAR_AUDIENCES", noEffect)
	}
	if s.Mode == resolverOnly && len(s.ClientIDs) > 0 {
		problem("AUTHGEAR_CLIENT_IDS", noEffect)
	}
	if s.AdminListen == s.Listen && !strings.HasSuffix(string(s.Listen), ":0") {
		problem("AUTHGEAR_ADMIN_LISTEN", "must be another address than that of AUTHGEAR_LISTEN")
	}
	if s.TLSCert == "" && (s.TLSKey != "" || s.TLSClientCA != "") {
		problem("AUTHGEAR_TLS_CERT", "is required with AUTHGEAR_TLS_KEY and AUTHGEAR_TLS_CLIENT_CA: the file of the certificate that peers are shown")
	}
	if s.TLSKey == "" && (s.TLSCert != "" || s.TLSClientCA != "") {
		problem("AUTHGEAR_TLS_KEY", "is required with AUTHGEAR_TLS_CERT and AUTHGEAR_TLS_CLIENT_CA: the file of the certificate's key")
	}
	if s.DrainDelay < 0 || s.DrainDelay > time.Minute {
		problem("AUTHGEAR_DRAIN_DELAY", "must be between 0s and 1m, not %s", s.DrainDelay)
	}
	switch {
	case s.RedisURL != "" && len(s.FleetSecret) < 32:
		problem("AUTHGEAR_FLEET_SECRET", "must have 32 characters or more where AUTHGEAR_REDIS_URL is set, the same for each replica; for example the output of: openssl rand -hex 32")
	case s.RedisURL == "" && s.FleetSecret != "":
		problem("AUTHGEAR_FLEET_SECRET", "has no effect without AUTHGEAR_REDIS_URL")
	}
	return problems
}

// read fills s by envconfig, which stops at the first variable that it cannot
// read; so that all are reported, it is asked again without that one.
func (s *settings) read() (problems []error) {
	problems = tidy()
	for _, name := range secretNames() {
		if err := readSecretFile(name); err != nil {
			problems = append(problems, err)
		}
	}
	for {
		err := envconfig.Process("", s)
		var unread *envconfig.ParseError
		switch {
		case err == nil:
			return problems
		case !errors.As(err, &unread):
			return append(problems, err)
		}
		cause := unread.Err
		if unread.TypeName == "time.Duration" {
			cause = fmt.Errorf("takes a duration such as 30s, 5m or 1h, not %q", unread.Value)
		}
		problems = append(problems, fmt.Errorf("%s: %w", unread.KeyName, cause))
		os.Unsetenv(unread.KeyName)
	}
}

// tidy takes away the white space around what is set, and around each entry of a list:
// editors and files leave it. What is empty then is not set, so that its default holds.
// Secrets take care of themselves.
func tidy() (problems []error) {
	for field := range reflect.TypeFor[settings]().Fields() {
		name := field.Tag.Get("envconfig")
		value, set := os.LookupEnv(name)
		if value = trim(value); !set || isSecret(field) && value != "" {
			continue
		}
		entries := []string{value}
		if field.Type.Kind() == reflect.Slice {
			entries = strings.Split(value, ",")
		}
		for i, entry := range entries {
			entries[i] = trim(entry)
		}
		switch {
		case value == "" && name == "AUTHGEAR_TRUSTED_PROXIES":
			problems = append(problems, fmt.Errorf("%s: is empty: unset it for the default, which believes private ranges; to believe nobody, name an address that no peer has, such as 192.0.2.1", name))
		case value == "" && name == "AUTHGEAR_WEBHOOK_SECRET":
			problems = append(problems, fmt.Errorf("%s: is empty: give the secret, or unset it to do without events", name))
		case value != "" && slices.Contains(entries, ""):
			problems = append(problems, fmt.Errorf("%s: %q has an empty entry: take away the comma too many", name, value))
		case value != "":
			os.Setenv(name, strings.Join(entries, ","))
			continue
		}
		os.Unsetenv(name)
	}
	return problems
}

// trim takes away white space around a value, and the mark that some editors begin a file with.
func trim(value string) string {
	return strings.TrimSpace(strings.TrimPrefix(strings.TrimSpace(value), "\ufeff"))
}

// readSecretFile sets the variable to what is in the file that NAME_FILE names.
func readSecretFile(name string) error {
	if trim(os.Getenv(name+"_FILE")) == "" {
		return nil
	}
	if os.Getenv(name) != "" {
		return fmt.Errorf("%s_FILE: %s is set too: unset one of them", name, name)
	}
	text, err := secretFile(name)
	if err != nil {
		return err
	}
	return os.Setenv(name, text)
}

// secretFile returns what is in the file that NAME_FILE names.
func secretFile(name string) (string, error) {
	file := trim(os.Getenv(name + "_FILE"))
	text, err := os.ReadFile(file)
	if err != nil {
		return "", fmt.Errorf("%s_FILE: takes the path of a file: %w", name, errors.Unwrap(err)) // what it says may be the secret itself
	}
	secret := trim(string(text))
	if secret == "" {
		return "", fmt.Errorf("%s_FILE: the file %s is empty: write the secret into it, or unset the variable", name, file)
	}
	return secret, nil
}

// unknownSettings returns a warning for each AUTHGEAR_* variable that means
// nothing here. Kubernetes makes some.
func unknownSettings(environ []string) (warnings []string) {
	known := settingNames()
	for _, line := range environ {
		name, _, _ := strings.Cut(line, "=")
		if !strings.HasPrefix(name, "AUTHGEAR_") || slices.Contains(known, name) || kubernetes.MatchString(name) {
			continue
		}
		nearest := slices.MinFunc(known, func(a, b string) int { return distance(name, a) - distance(name, b) })
		warnings = append(warnings, fmt.Sprintf("%s is unknown and has no effect: is %s meant?", name, nearest))
	}
	return warnings
}

// kubernetes matches what a Service called authgear, or authgear-something,
// becomes in the environment of the pods beside it.
var kubernetes = regexp.MustCompile(`_(SERVICE_HOST|SERVICE_PORT(_[A-Z0-9_]+)?|PORT|PORT_[0-9]+_(TCP|UDP|SCTP)(_(PROTO|PORT|ADDR))?)$`)

// distance is Levenshtein's.
func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			change := diagonal
			if a[i] != b[j] {
				change++
			}
			diagonal = row[j+1]
			row[j+1] = min(change, row[j]+1, row[j+1]+1)
		}
	}
	return row[len(b)]
}
