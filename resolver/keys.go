package resolver

import (
	"context"
	"crypto/rsa"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/json"
	"github.com/valyala/fasthttp"
	"golang.org/x/sync/singleflight"
)

// Keys are the issuer's public keys (RFC 7517), fetched from /oauth2/jwks when
// they are first needed. The last good set stays in use while the issuer
// cannot be reached.
type Keys struct {
	url     string
	timeout time.Duration
	client  *fasthttp.Client
	fetched func(error)

	set     atomic.Pointer[keySet]
	last    atomic.Pointer[attempt]
	flights singleflight.Group
	one     sync.Mutex // a fetch at a time: an older set must not take the place of a newer one
}

type keySet struct {
	byID    map[string]*publicKey // :: kid → key
	fetched time.Time
	unused  int // of the issuer's keys
}

type attempt struct {
	at  time.Time
	err error
}

// How often the issuer is asked, whatever strangers send.
const (
	keysGap        = 5 * time.Second // after a fetch that went well
	keysGapOnError = time.Second
	keysRefresh    = 5 * time.Minute // Authgear's own portal trusts a set as long
	maxKeysBytes   = 1 << 20
	minRSABits     = 2048
	maxRSABits     = 4096 // go-jose reads no larger ones
	minRSAExponent = 3
)

// NewKeys returns the keys of the issuer. fetched is told how each fetch went.
func NewKeys(issuer string, timeout time.Duration, fetched func(error)) *Keys {
	return &Keys{
		url:     issuer + "/oauth2/jwks",
		timeout: timeout,
		fetched: fetched,
		client: &fasthttp.Client{
			NoDefaultUserAgentHeader: true, // Authgear may block user agents on this server
			MaxResponseBodySize:      maxKeysBytes,
			ReadTimeout:              timeout,
			WriteTimeout:             timeout,
			MaxIdleConnDuration:      10 * time.Second,
			Dial:                     dial(timeout),
		},
	}
}

// Key returns the key with that ID. One that is unknown makes the set be
// fetched anew, once for all who wait and no sooner than a gap after the last
// time.
func (k *Keys) Key(ctx context.Context, kid string) (*publicKey, error) {
	if key := k.lookup(kid); key != nil {
		return key, nil
	}
	err := k.Refresh(ctx)
	if key := k.lookup(kid); key != nil {
		return key, nil
	}
	if err != nil {
		return nil, &UnavailableError{KeysUnavailable, err}
	}
	return nil, errUnknownKey
}

var errUnknownKey = invalid(UnknownKey, "the issuer has no key with the kid of the token")

func (k *Keys) lookup(kid string) *publicKey {
	if set := k.set.Load(); set != nil {
		return set.byID[kid]
	}
	return nil
}

// Fetched returns when the keys in use were fetched; zero if there are none.
func (k *Keys) Fetched() time.Time {
	if set := k.set.Load(); set != nil {
		return set.fetched
	}
	return time.Time{}
}

// IDs returns the kids of the keys in use, and how many keys of the issuer are of no
// use here.
func (k *Keys) IDs() (kids []string, unused int) {
	set := k.set.Load()
	if set == nil {
		return nil, 0
	}
	return slices.Sorted(maps.Keys(set.byID)), set.unused
}

// describe tells of the key that a signature was checked with, for an explanation.
func (k *Keys) describe(kid string, err error) string {
	switch {
	case err != nil && ReasonOf(err) == MalformedCredential:
		return "unreadable"
	case k.Fetched().IsZero():
		return "no key yet from " + k.url
	case k.lookup(kid) == nil:
		kids, _ := k.IDs()
		return fmt.Sprintf("the keys from %s, fetched %s ago, are %q", k.url, time.Since(k.Fetched()).Round(time.Second), kids)
	}
	return fmt.Sprintf("with key %s from %s, fetched %s ago", quoted(kid), k.url, time.Since(k.Fetched()).Round(time.Second))
}

// Refresh fetches the keys, unless that was done just now: then it returns how
// that went. The fetch goes on for others when ctx ends.
func (k *Keys) Refresh(ctx context.Context) error {
	if done, err := k.justNow(); done {
		return err
	}
	done := k.flights.DoChan("", func() (any, error) { return nil, k.refresh() })
	select {
	case <-ctx.Done():
		return fmt.Errorf("wait for keys: %w", ctx.Err())
	case r := <-done:
		return r.Err
	}
}

func (k *Keys) refresh() error {
	if done, err := k.justNow(); done {
		return err
	}
	return k.Renew()
}

// justNow tells how the last fetch went, if it is too soon for another.
func (k *Keys) justNow() (done bool, err error) {
	last := k.last.Load()
	if last == nil {
		return false, nil
	}
	gap := keysGap
	if last.err != nil {
		gap = keysGapOnError
	}
	return time.Since(last.at) < gap, last.err
}

// Renew fetches the keys, whenever that was done last. It is for the operator: what
// strangers send must never lead to it.
func (k *Keys) Renew() error {
	k.one.Lock()
	defer k.one.Unlock()
	set, err := k.fetch()
	if err != nil {
		err = fmt.Errorf("fetch keys from %s: %w", k.url, err)
	} else {
		k.set.Store(set)
	}
	k.fetched(err)
	k.last.Store(&attempt{time.Now(), err})
	return err
}

// Run keeps the keys fresh until ctx ends.
func (k *Keys) Run(ctx context.Context) {
	for {
		wait := keysRefresh - rand.N(keysRefresh/10)
		if k.Refresh(ctx) != nil {
			wait = keysGapOnError + rand.N(4*time.Second)
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(wait):
		}
	}
}

func (k *Keys) fetch() (*keySet, error) {
	req, resp := fasthttp.AcquireRequest(), fasthttp.AcquireResponse()
	defer fasthttp.ReleaseRequest(req)
	defer fasthttp.ReleaseResponse(resp)
	req.SetRequestURI(k.url)
	if err := k.client.DoTimeout(req, resp, k.timeout); err != nil {
		return nil, err
	}
	switch status := resp.StatusCode(); {
	case status >= 300 && status < 400:
		// Contract §3.4: main sends every other scheme or host there.
		return nil, fmt.Errorf("the answer is %d to %q: is AUTHGEAR_ENDPOINT exactly the project's public origin?",
			status, resp.Header.Peek("Location"))
	case status != fasthttp.StatusOK:
		return nil, fmt.Errorf("the answer is %d: is AUTHGEAR_ENDPOINT the project's public origin?", status)
	}
	return parseKeys(resp.Body())
}

// parseKeys returns the keys of a JWK Set that may verify RS256. The others, and
// those of another use, are passed over. RFC 7517 §5.
func parseKeys(jwks []byte) (*keySet, error) {
	var doc struct {
		Keys []json.RawMessage `json:"keys"`
	}
	if err := json.Unmarshal(jwks, &doc); err != nil {
		return nil, fmt.Errorf("no JWK Set: %w", err)
	}
	set := &keySet{byID: make(map[string]*publicKey), fetched: time.Now()}
	for _, raw := range doc.Keys {
		kid, key := usable(raw)
		switch {
		case key == nil:
			set.unused++
		case set.byID[kid] == nil: // of two with one kid, Authgear signs with the first
			set.byID[kid] = key
		}
	}
	if len(set.byID) == 0 {
		return nil, errors.New("the JWK Set has no RSA key of 2048 to 4096 bits for RS256 signatures")
	}
	return set, nil
}

// usable returns a key of a JWK Set and its kid; nil if it may not verify RS256.
func usable(raw []byte) (kid string, _ *publicKey) {
	var jwk jose.JSONWebKey
	if err := jwk.UnmarshalJSON(raw); err != nil || !mayVerify(raw) || !isForRS256(&jwk) {
		return "", nil
	}
	public, ok := jwk.Key.(*rsa.PublicKey)
	if !ok {
		return "", nil
	}
	key, err := newPublicKey(public)
	if err != nil {
		return "", nil
	}
	return jwk.KeyID, key
}

func isForRS256(k *jose.JSONWebKey) bool {
	return k.KeyID != "" && (k.Use == "" || k.Use == "sig") && (k.Algorithm == "" || k.Algorithm == string(jose.RS256))
}

// mayVerify looks at key_ops, which go-jose does not read. RFC 7517 §4.3.
func mayVerify(jwk []byte) bool {
	var doc struct {
		Operations *[]string `json:"key_ops"`
	}
	err := json.Unmarshal(jwk, &doc)
	return err == nil && (doc.Operations == nil || slices.Contains(*doc.Operations, "verify"))
}
