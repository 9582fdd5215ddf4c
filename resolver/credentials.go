package resolver

import (
	"net/netip"
	"net/textproto"
	"strings"
	"time"
	"unsafe"
)

// A Slot is a place where Authgear looks for a credential. The order of the
// slots is Authgear's own: the first credential that is any good wins.
type Slot uint8

const (
	Bearer         Slot = iota + 1 // Authorization: Bearer …
	AppSession                     // cookie <prefix>app_session
	AppAccessToken                 // cookie <prefix>app_access_token
	IDPSession                     // cookie <prefix>session
)

// The longest credentials that are looked at, in bytes. Those of Authgear that are no JWT have 70
// at most (contract §3.1, and as recorded).
const (
	maxToken  = 16 << 10
	maxOpaque = 2 << 10
)

// A Credential is one credential and the slot in which Authgear would be asked
// about it.
type Credential struct {
	Slot  Slot
	Value string
}

// IsJWT tells whether Authgear would take the credential for a JWT (contract
// §3.3). An opaque token, which has no dot, may begin like one by chance.
func (c Credential) IsJWT() bool {
	return (c.Slot == Bearer || c.Slot == AppAccessToken) && strings.HasPrefix(c.Value, "eyJ") && strings.Contains(c.Value, ".")
}

// Kind says what the credential is, for logs: a JWT, or the slot of one that is opaque.
func (c Credential) Kind() string {
	switch {
	case c.IsJWT():
		return "jwt"
	case c.Slot == AppSession:
		return "app_session"
	case c.Slot == IDPSession:
		return "session"
	}
	return "opaque"
}

// Credentials are what a request carries to say who sent it.
type Credentials struct {
	// List has the credentials in the order in which they are tried.
	List []Credential

	// Malformed says why List lacks what came first: an Authorization field that cannot be
	// read in one way only, or a credential that is longer than any of Authgear's. Nil:
	// nothing is lacking there.
	Malformed error

	// Asked is when they came. The zero time is now.
	Asked time.Time

	// Client returns who describes the client to Authgear, which shows it on the
	// user's list of sessions. It is called for a question alone, and only until
	// Resolve returns. Nil: nobody knows.
	Client func() Client

	// NotBefore is when Authgear must have been asked, or later, if somebody knows its
	// answer already. Whoever asks Authgear itself need not look.
	NotBefore time.Time

	// Known says that somebody has vouched for them before: those that are new must not
	// delay them.
	Known bool

	// Unhurried says that there is an answer that will do for some time yet.
	Unhurried bool

	// Trace is told how the answer was found, before Resolve returns. Nil: nobody
	// wants to know.
	Trace *Trace
}

// A Client is the sender of a request. It has no part in the answer.
type Client struct {
	IP        netip.Addr // as trusted proxies tell it; not valid if nobody does
	UserAgent string     // its beginning
}

// None tells whether the request carries no credential at all.
func (c Credentials) None() bool { return len(c.List) == 0 && c.Malformed == nil }

// Clone returns a copy that shares no memory with c, and has no trace.
func (c Credentials) Clone() Credentials {
	list := make([]Credential, len(c.List))
	for i, one := range c.List {
		list[i] = Credential{one.Slot, strings.Clone(one.Value)}
	}
	c.List, c.Trace = list, nil
	if c.Client != nil {
		client := c.Client()
		client.UserAgent = strings.Clone(client.UserAgent)
		c.Client = func() Client { return client }
	}
	return c
}

// Reader finds credentials in the fields of a request.
type Reader struct {
	cookies []Credential // slot and cookie name, in the order in which they are tried
}

// NewReader returns a Reader for a project with the given http.cookie_prefix.
// accessTokenCookies name further cookies that hold an access token.
func NewReader(prefix string, accessTokenCookies []string) *Reader {
	r := &Reader{cookies: []Credential{
		{AppSession, prefix + "app_session"},
		{AppAccessToken, prefix + "app_access_token"},
	}}
	for _, name := range accessTokenCookies {
		r.cookies = append(r.cookies, Credential{AppAccessToken, name})
	}
	r.cookies = append(r.cookies, Credential{IDPSession, prefix + "session"})
	return r
}

// Read appends the credentials in the given Authorization and Cookie lines to
// list, which is empty. They share the memory of the lines: whoever keeps them clones them.
func (r *Reader) Read(list []Credential, authorization, cookie [][]byte) Credentials {
	c := Credentials{List: list}
	if token, err := bearer(authorization); err != nil {
		c.Malformed = err
	} else if token != "" {
		c.add(Credential{Bearer, token})
	}
	if len(cookie) == 0 || tooManyCookies(cookie) {
		return c
	}
	for _, want := range r.cookies {
		if value, ok := findCookie(cookie, want.Value); ok {
			c.add(Credential{want.Slot, value})
		}
	}
	return c
}

func (c *Credentials) add(one Credential) {
	n := len(one.Value)
	switch {
	case n <= maxOpaque || n <= maxToken && one.IsJWT():
		c.List = append(c.List, one)
	case len(c.List) == 0 && c.Malformed == nil:
		c.Malformed = errTooLong
	}
}

var (
	errAuthorization = invalid(MalformedCredential, "the Authorization field: is it there once, with one Bearer token?")
	errTooLong       = invalid(MalformedCredential, "the first credential is longer than any of Authgear's: more than 2 KiB, or a JWT of more than 16 KiB")
)

// bearer returns the token of an Authorization field as Authgear reads it
// (contract §1.2): the scheme ends at the first space, in any letter case.
// What could be read in two ways is malformed.
func bearer(lines [][]byte) (string, error) {
	if len(lines) == 0 {
		return "", nil
	}
	line := alias(lines[0])
	if len(lines) > 1 || strings.Contains(line, ",") {
		return "", errAuthorization
	}
	scheme, token, found := strings.Cut(textproto.TrimString(line), " ")
	if !found || !strings.EqualFold(scheme, "Bearer") {
		return "", nil
	}
	return token, nil
}

// alias returns the bytes as a string without copying them.
func alias(b []byte) string { return unsafe.String(unsafe.SliceData(b), len(b)) }

// bytesOf returns the bytes of the string without copying them. They must not be changed.
func bytesOf(s string) []byte { return unsafe.Slice(unsafe.StringData(s), len(s)) }
