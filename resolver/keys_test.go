package resolver

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"math/big"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"authgear-forward-auth/internal/authgeartest"
)

// An issuer is an Authgear that answers over pipes, so that it fits into a
// bubble of its own time, with the keys as we see them.
type issuer struct {
	*authgeartest.Server
	keys     *Keys
	latency  time.Duration // of each answer
	warnings atomic.Int32
	conns    chan net.Conn
	done     chan struct{}
}

func (i *issuer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	time.Sleep(i.latency)
	i.Server.ServeHTTP(w, r)
}

func (i *issuer) Accept() (net.Conn, error) {
	select {
	case conn := <-i.conns:
		return conn, nil
	case <-i.done:
		return nil, net.ErrClosed
	}
}

func (i *issuer) Close() error   { close(i.done); return nil }
func (i *issuer) Addr() net.Addr { return &net.UnixAddr{} }

func (i *issuer) dial(string) (net.Conn, error) {
	ours, theirs := net.Pipe()
	select {
	case i.conns <- theirs:
		return ours, nil
	case <-i.done:
		return nil, net.ErrClosed
	}
}

// withIssuer runs f with the issuer origin, which we take for endpoint.
func withIssuer(t *testing.T, origin, endpoint string, f func(*testing.T, *issuer)) {
	synctest.Test(t, func(t *testing.T) {
		i := &issuer{Server: authgeartest.New(authgeartest.Options{Origin: origin}), conns: make(chan net.Conn), done: make(chan struct{})}
		i.keys = NewKeys(endpoint, 5*time.Second, func(err error) {
			if err != nil {
				i.warnings.Add(1)
			}
		})
		i.keys.client.Dial = i.dial
		server := &http.Server{Handler: i}
		go server.Serve(i)
		defer func() {
			server.Close()
			time.Sleep(time.Minute) // fasthttp's cleaners end, which a bubble has to wait for
		}()
		f(t, i)
	})
}

const auth = "http://auth.example.com"

// resolve verifies a token with the keys of the issuer.
func (i *issuer) resolve(token string) error {
	j := &JWT{Issuer: i.Origin(), Audiences: []string{i.Origin()}, Keys: i.keys}
	_, err := j.Resolve(context.Background(), Credentials{List: []Credential{{Bearer, token}}})
	return err
}

// all verifies a token n times at once.
func (i *issuer) all(t *testing.T, n int, token string) {
	t.Helper()
	var all sync.WaitGroup
	for range n {
		all.Go(func() {
			if err := i.resolve(token); err != nil {
				t.Errorf("Resolve: %v", err)
			}
		})
	}
	all.Wait()
}

func (i *issuer) wantFetches(t *testing.T, n int) {
	t.Helper()
	if got := i.KeyFetches(); got != n {
		t.Errorf("%d fetches so far, want %d", got, n)
	}
}

func wantReason(t *testing.T, err error, want Reason) {
	t.Helper()
	var inv *InvalidError
	var out *UnavailableError
	switch {
	case errors.As(err, &inv) && inv.Reason == want:
	case errors.As(err, &out) && out.Reason == want:
	default:
		t.Errorf("got %v, want %s", err, want)
	}
}

func TestANewKeyIsFetchedOnceForAll(t *testing.T) {
	withIssuer(t, auth, auth, func(t *testing.T, i *issuer) {
		i.latency = time.Second // all the callers are there before the answer
		ada := i.AddUser(authgeartest.User{ID: "ada"})
		before := i.JWT(ada)
		i.all(t, 100, before)
		i.wantFetches(t, 1)

		i.RotateKey()
		time.Sleep(keysGap)
		i.all(t, 100, i.JWT(ada))
		i.wantFetches(t, 2)
		i.all(t, 100, before)
		i.wantFetches(t, 2)
	})
}

// Within the gap even a real new key has to wait: a stranger's token looks the
// same.
func TestANewKeyWaitsForTheGap(t *testing.T) {
	withIssuer(t, auth, auth, func(t *testing.T, i *issuer) {
		ada := i.AddUser(authgeartest.User{ID: "ada"})
		i.all(t, 1, i.JWT(ada))
		i.RotateKey()
		token := i.JWT(ada)
		time.Sleep(keysGap - time.Nanosecond)
		wantReason(t, i.resolve(token), UnknownKey)
		i.wantFetches(t, 1)
		time.Sleep(time.Nanosecond)
		i.all(t, 1, token)
		i.wantFetches(t, 2)
	})
}

func TestAFloodOfUnknownKeysCausesFewFetches(t *testing.T) {
	const tokens, duration = 1000, time.Minute
	for _, tt := range []struct {
		name   string
		answer http.HandlerFunc
		gap    time.Duration
		want   Reason
	}{
		{"the issuer is well", nil, keysGap, UnknownKey},
		{"the issuer is away", status(500), keysGapOnError, KeysUnavailable},
	} {
		t.Run(tt.name, func(t *testing.T) {
			withIssuer(t, auth, auth, func(t *testing.T, i *issuer) {
				i.all(t, 1, i.JWT(i.AddUser(authgeartest.User{ID: "ada"})))
				time.Sleep(keysGap)
				i.Fail("keys", tt.answer)
				var all sync.WaitGroup
				for n := range tokens {
					all.Go(func() {
						_, err := i.keys.Key(context.Background(), fmt.Sprint("unknown ", n))
						wantReason(t, err, tt.want)
					})
					time.Sleep(duration / tokens)
				}
				all.Wait()
				atMost := int(duration / tt.gap)
				if n := i.KeyFetches() - 1; n > atMost || n < atMost/2 {
					t.Errorf("%d fetches for %d tokens in %v, want about %d and no more", n, tokens, duration, atMost)
				}
			})
		})
	}
}

func TestARemovedKeyEndsWithTheNextFetch(t *testing.T) {
	withIssuer(t, auth, auth, func(t *testing.T, i *issuer) {
		ctx, cancel := context.WithCancel(context.Background())
		defer cancel()
		go i.keys.Run(ctx)
		synctest.Wait()
		ada := i.AddUser(authgeartest.User{ID: "ada"})
		before := i.JWT(ada, func(_, claims map[string]any) { claims["exp"] = time.Now().Add(time.Hour).Unix() })
		i.all(t, 1, before)
		i.RotateKey()
		i.DropOldKeys()
		i.all(t, 1, before) // nothing has told us yet

		time.Sleep(keysRefresh)
		i.wantFetches(t, 2)
		wantReason(t, i.resolve(before), UnknownKey)
		i.all(t, 1, i.JWT(ada))
	})
}

func TestRunTriesAgainSoonerAfterAFailure(t *testing.T) {
	withIssuer(t, auth, auth, func(t *testing.T, i *issuer) {
		i.Fail("keys", status(500))
		ctx, cancel := context.WithCancel(context.Background())
		defer cancel()
		go i.keys.Run(ctx)
		time.Sleep(time.Minute)
		if n := i.KeyFetches(); n < 60/5 || n > 60 || int(i.warnings.Load()) != n {
			t.Errorf("%d fetches in a minute and %d warnings, want one of each every 1 to 5 s", n, i.warnings.Load())
		}
		i.Fail("keys", nil)
		time.Sleep(6 * time.Second)
		if i.keys.Fetched().IsZero() {
			t.Error("no keys 6 s after the issuer came back")
		}
	})
}

func TestACallerWhoLeavesDoesNotEndTheFetch(t *testing.T) {
	withIssuer(t, auth, auth, func(t *testing.T, i *issuer) {
		i.latency = time.Second
		token := i.JWT(i.AddUser(authgeartest.User{ID: "ada"}))
		ctx, cancel := context.WithTimeout(context.Background(), time.Millisecond)
		defer cancel()
		_, err := i.keys.Key(ctx, "any")
		wantReason(t, err, KeysUnavailable)
		i.all(t, 1, token)
		i.wantFetches(t, 1)
	})
}

func status(code int) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(code) }
}

func body(text string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) { w.Write([]byte(text)) }
}

func TestOldKeysStayWhileTheIssuerErrs(t *testing.T) {
	withIssuer(t, auth, auth, func(t *testing.T, i *issuer) {
		token := i.JWT(i.AddUser(authgeartest.User{ID: "ada"}), func(_, claims map[string]any) {
			claims["exp"] = time.Now().Add(time.Hour).Unix()
		})
		i.all(t, 1, token)
		for _, tt := range []struct {
			name   string
			answer http.HandlerFunc
		}{
			{"500", status(500)},
			{"404", status(404)},
			{"204", status(204)},
			{"no JSON", body("<html>Sign in")},
			{"half of it", body(`{"keys":[{"kty":"RSA",`)},
			{"a list", body("[]")},
			{"no keys", body("{}")},
			{"an empty set", body(`{"keys":[]}`)},
			{"keys are no list", body(`{"keys":{"kty":"RSA"}}`)},
			{"keys twice", body(`{"keys":[],"keys":[]}`)},
			{"no usable key", body(jwks(keyWith("n", base64URL(odd(1024)))))},
			{"more than 1 MiB", body(jwks(keyWith("x", strings.Repeat("x", maxKeysBytes))))},
			{"cut off", func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }},
			{"slower than the timeout", func(http.ResponseWriter, *http.Request) { time.Sleep(6 * time.Second) }},
			{"a redirection", func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, auth, http.StatusTemporaryRedirect) }},
		} {
			i.wantOldKeys(t, tt.name, token, tt.answer)
		}
	})
}

// wantOldKeys tests that a token still passes while the issuer gives such an
// answer, and that the keys are fresh again when it gives its own.
func (i *issuer) wantOldKeys(t *testing.T, name, token string, answer http.HandlerFunc) {
	t.Helper()
	fetched, warned := i.keys.Fetched(), i.warnings.Load()
	time.Sleep(keysGap)
	i.Fail("keys", answer)
	err := i.keys.Refresh(context.Background())
	if err == nil || !strings.Contains(err.Error(), auth+"/oauth2/jwks") || i.warnings.Load() != warned+1 {
		t.Errorf("%s: Refresh: %v, %d warnings, want an error that names the URL and one warning", name, err, i.warnings.Load()-warned)
	}
	i.all(t, 1, token)
	_, err = i.keys.Key(context.Background(), "unknown")
	wantReason(t, err, KeysUnavailable)
	if !i.keys.Fetched().Equal(fetched) {
		t.Errorf("%s: Fetched = %v, want still %v", name, i.keys.Fetched(), fetched)
	}

	i.Fail("keys", nil)
	time.Sleep(keysGapOnError)
	if err := i.keys.Refresh(context.Background()); err != nil || !i.keys.Fetched().After(fetched) {
		t.Errorf("%s: Refresh when it is back: %v, Fetched = %v", name, err, i.keys.Fetched())
	}
}

func TestWithoutAnyKeysNothingIsFoundOut(t *testing.T) {
	withIssuer(t, auth, auth, func(t *testing.T, i *issuer) {
		token := i.JWT(i.AddUser(authgeartest.User{ID: "ada"}))
		i.Fail("keys", status(500))
		wantReason(t, i.resolve(token), KeysUnavailable)
		i.Fail("keys", nil)
		wantReason(t, i.resolve(token), KeysUnavailable) // the gap is not over
		i.wantFetches(t, 1)
		time.Sleep(keysGapOnError)
		i.all(t, 1, token)
		i.wantFetches(t, 2)
	})
}

// Authgear's main sends every other scheme and host to its own.
func TestARedirectNamesTheSetting(t *testing.T) {
	for endpoint, origin := range map[string]string{
		"http://app.example.com":       auth,
		"http://auth.example.com:8080": auth,
		auth:                           "https://auth.example.com",
	} {
		withIssuer(t, origin, endpoint, func(t *testing.T, i *issuer) {
			_, err := i.keys.Key(context.Background(), "any")
			wantReason(t, err, KeysUnavailable)
			for _, want := range []string{"307", "AUTHGEAR_ENDPOINT", origin + "/oauth2/jwks", endpoint + "/oauth2/jwks"} {
				if err == nil || !strings.Contains(err.Error(), want) {
					t.Errorf("of %s, taken for %s: %v, want it to name %s", origin, endpoint, err, want)
				}
			}
		})
	}
}

// odd returns an odd number of that many bits, such as an RSA modulus is.
func odd(bits uint) *big.Int {
	n, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), bits-1))
	if err != nil {
		panic(err)
	}
	return n.SetBit(n.SetBit(n, 0, 1), int(bits-1), 1)
}

func base64URL(n *big.Int) string { return base64.RawURLEncoding.EncodeToString(n.Bytes()) }

// keyWith returns a good key with the kid "it", but for the given members; nil
// leaves one out.
func keyWith(members ...any) map[string]any {
	jwk := map[string]any{"kid": "it", "kty": "RSA", "use": "sig", "alg": "RS256", "created_at": 1, "n": base64URL(odd(2048)), "e": "AQAB"}
	for i := 0; i < len(members); i += 2 {
		jwk[members[i].(string)] = members[i+1]
	}
	maps.DeleteFunc(jwk, func(_ string, v any) bool { return v == nil })
	return jwk
}

func jwks(keys ...any) string {
	b, err := json.Marshal(map[string]any{"keys": keys})
	if err != nil {
		panic(err)
	}
	return string(b)
}

func TestWhichKeysAreUsed(t *testing.T) {
	good := keyWith("kid", "good")
	for _, tt := range []struct {
		name string
		key  any
		used bool
	}{
		{"2048 bits", keyWith(), true},
		{"3072 bits", keyWith("n", base64URL(odd(3072))), true},
		{"neither use nor alg", keyWith("use", nil, "alg", nil), true},
		{"exponent 3", keyWith("e", "Aw"), true},
		{"1024 bits", keyWith("n", base64URL(odd(1024))), false},
		{"2047 bits", keyWith("n", base64URL(odd(2047))), false},
		{"exponent 1", keyWith("e", "AQ"), false},
		{"exponent 2", keyWith("e", "Ag"), false},
		{"exponent 4", keyWith("e", "BA"), false},
		{"exponent 0", keyWith("e", "AA"), false},
		{"no exponent", keyWith("e", nil), false},
		{"no modulus", keyWith("n", nil), false},
		{"no kid", keyWith("kid", nil), false},
		{"for encryption", keyWith("use", "enc"), false},
		{"for PS256", keyWith("alg", "PS256"), false},
		{"for RS512", keyWith("alg", "RS512"), false},
		{"symmetric", keyWith("kty", "oct", "k", "c2VjcmV0", "alg", "HS256", "n", nil, "e", nil), false},
		{"symmetric that says RS256", keyWith("kty", "oct", "k", "c2VjcmV0", "n", nil, "e", nil), false},
		{"elliptic curve", map[string]any{"kid": "it", "kty": "EC", "crv": "P-256", "x": "MKBCTNIcKUSDii11ySs3526iDZ8AiTo7Tu6KPAqv7D4", "y": "4Etl6SRW2YiLUrN5vfvVHuhp7x8PxltmWWlbbM4IFyM"}, false},
		{"Edwards curve", map[string]any{"kid": "it", "kty": "OKP", "crv": "Ed25519", "x": "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}, false},
		{"another kind", keyWith("kty", "XYZ"), false},
		{"no object", "RSA", false},
		{"null", nil, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			set, err := parseKeys([]byte(jwks(tt.key, good)))
			if err != nil {
				t.Fatal(err)
			}
			if got := set.byID["it"] != nil; got != tt.used || set.byID["good"] == nil || set.byID[""] != nil {
				t.Errorf("used: %v, want %v, in the set %v", got, tt.used, set.byID)
			}
			if _, err := parseKeys([]byte(jwks(tt.key))); (err == nil) != tt.used {
				t.Errorf("alone: %v", err)
			}
		})
	}
}

func TestTheFirstUsableKeyOfAKidCounts(t *testing.T) {
	first, second, weak := keyWith(), keyWith(), keyWith("use", "enc")
	for name, tt := range map[string]struct {
		set  string
		want map[string]any
	}{
		"two":              {jwks(first, second), first},
		"the other way":    {jwks(second, first), second},
		"after a weak one": {jwks(weak, second, first), second},
	} {
		set, err := parseKeys([]byte(tt.set))
		if err != nil {
			t.Fatal(err)
		}
		if got := base64URL(set.byID["it"].N); got != tt.want["n"] || len(set.byID) != 1 {
			t.Errorf("%s: got the modulus %.8s…, want %.8s…", name, got, tt.want["n"])
		}
	}
}

// An answer that was under way when the operator had the keys read again is older.
func TestAnOlderFetchUndoesNoRenewal(t *testing.T) {
	s := authgeartest.Start(t, authgeartest.Options{})
	key := func(kid string) string {
		return fmt.Sprintf(`{"kty":"RSA","kid":%q,"n":%q,"e":"AQAB"}`, kid, base64.RawURLEncoding.EncodeToString(bytes.Repeat([]byte{0xff}, 256)))
	}
	var fetches atomic.Int32
	first, lands := make(chan bool), make(chan bool)
	s.Fail("keys", func(w http.ResponseWriter, _ *http.Request) {
		if fetches.Add(1) == 1 {
			close(first)
			<-lands
			fmt.Fprintf(w, `{"keys":[%s,%s]}`, key("stolen"), key("new"))
			return
		}
		fmt.Fprintf(w, `{"keys":[%s]}`, key("new"))
	})
	k := NewKeys(s.Origin(), 10*time.Second, func(error) {})
	both := make(chan error, 2)
	go func() { both <- k.Refresh(t.Context()) }()
	<-first
	go func() { both <- k.Renew() }()
	time.Sleep(50 * time.Millisecond)
	close(lands)
	if err := errors.Join(<-both, <-both); err != nil {
		t.Fatal(err)
	}
	if kids, _ := k.IDs(); len(kids) != 1 || kids[0] != "new" {
		t.Errorf("the keys are %q, want the new one alone", kids)
	}
}

// Authgear's main server may refuse some user agents.
func TestTheIssuerIsToldNoUserAgent(t *testing.T) {
	s := authgeartest.Start(t, authgeartest.Options{})
	asked := make(chan http.Header, 1)
	s.Fail("keys", func(_ http.ResponseWriter, r *http.Request) { asked <- r.Header })
	NewKeys(s.Origin(), 10*time.Second, func(error) {}).Renew()
	if got := (<-asked)["User-Agent"]; got != nil {
		t.Errorf("User-Agent: %q", got)
	}
}
