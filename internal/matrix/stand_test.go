package matrix

import (
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"authgear-forward-auth/internal/authgeartest"
)

// A stand is an Authgear whose resolver and keys have an address each, and a
// service of its own for each cell.
type stand struct {
	t        *testing.T
	part     part
	fault    fault
	authgear *authgeartest.Server
	keys     *front // the endpoint; of all that is there, only the keys matter here
	resolver *front
	cells    []*cell
	stalls   int32 // before it
}

// stalls are how often this process got no processor for a second. An answer that
// was due meanwhile may have come too late, and says nothing.
var stalls atomic.Int32

func countStalls() {
	for {
		began := time.Now()
		time.Sleep(pace)
		if time.Since(began) > time.Second {
			stalls.Add(1)
		}
	}
}

// setUps are the stands being set up: all at once would take the processor from
// each other.
var setUps = make(chan struct{}, 2)

// newStand returns a stand where the fault has just begun.
func newStand(t *testing.T, p part, f fault) *stand {
	setUps <- struct{}{}
	defer func() { <-setUps }()
	st := &stand{t: t, part: p, fault: f, keys: newFront(t, f.certificate), resolver: newFront(t, f.certificate), stalls: stalls.Load()}
	st.authgear = authgeartest.New(authgeartest.Options{Origin: st.keys.url()})
	st.heal()
	for _, m := range modes {
		for _, kind := range p.credentials {
			c := &cell{stand: st, mode: m, credential: kind}
			if !kind.cold {
				c.service = st.newService(m)
			}
			st.cells = append(st.cells, c)
		}
	}
	each(st.cells, (*cell).issue)
	each(st.cells, (*cell).warm)
	each(st.cells, (*cell).condemn)
	if t.Failed() {
		t.FailNow() // what comes now would say nothing
	}
	st.fail()
	each(st.cells, (*cell).meet)
	return st
}

func (st *stand) newService(m mode) *service {
	return newService(st.t, m, st.keys.url(), st.resolver.url())
}

// run asks for the rest, and then looks whether all recovers.
func (st *stand) run() {
	st.authgear.RotateKey()
	for _, c := range st.cells {
		if c.credential.cold {
			c.service = st.newService(c.mode)
		}
	}
	each(st.cells, (*cell).use)
	if st.fault.befall != nil {
		st.heal()
		each(st.cells, (*cell).recover)
	}
}

// late tells what came too late for the outcomes to say anything, if something did.
func (st *stand) late() string {
	for _, c := range st.cells {
		if c.late != "" {
			return c.late
		}
		if st.unfounded(c.first) || st.unfounded(c.later) {
			return c.mode.name + ", " + c.credential.name + ": " + c.outcome() + ", though all of that answers"
		}
	}
	if stalls.Load() != st.stalls {
		return "the machine stood still for a second"
	}
	return ""
}

// unfounded tells whether something is out of reach that answers in time.
func (st *stand) unfounded(outcome string) bool {
	switch outcome {
	case "503 resolver_unavailable":
		return st.part.name != "resolver" || st.fault.name == slowly
	case "503 keys_unavailable":
		return st.part.name != "keys" || st.fault.name == slowly
	}
	return false
}

func (st *stand) heal() {
	for _, f := range []*front{st.keys, st.resolver} {
		f.certificate = st.fault.certificate
		f.serve(st.authgear)
	}
}

func (st *stand) fail() {
	for _, c := range st.cells {
		st.authgear.Edit(c.user, func(u *authgeartest.User) { u.Roles = []string{"confirmed"} })
	}
	switch st.part.name {
	case "resolver":
		st.fault.befall(st.resolver, st.authgear)
	case "keys":
		st.fault.befall(st.keys, st.authgear)
	case "webhook":
		for _, c := range st.cells {
			st.authgear.Disable(c.user)
		}
	}
}

func (st *stand) newUser() *authgeartest.User {
	return st.authgear.AddUser(authgeartest.User{Roles: []string{"remembered"}, Verified: true})
}

func (st *stand) jwt(u *authgeartest.User) string {
	return st.authgear.JWT(u, func(_, claims map[string]any) {
		claims["https://authgear.com/claims/user/roles"] = []string{"signed"}
	})
}

// A cell is one credential in one mode.
type cell struct {
	stand      *stand
	mode       mode
	credential credential
	service    *service
	user       *authgeartest.User
	token      string
	other      string // of the user: the service has confirmed it before
	another    string // of the user: it meets the fault before the token does

	ready time.Time // when the service had its keys
	known window    // when the credential, or another before it, was confirmed or refused
	first string
	later string
	late  string // what came too late for the outcome to say anything
}

// A window lies around a moment that is not known better.
type window struct{ begin, end time.Time }

func (c *cell) outcome() string {
	if c.first == c.later {
		return c.first
	}
	return c.first + " → " + c.later
}

// issue makes a user with a token, and further tokens.
func (c *cell) issue() {
	c.user = c.stand.newUser()
	if c.credential.opaque {
		c.token = c.stand.authgear.OpaqueToken(c.user)
	} else {
		c.token = c.stand.jwt(c.user)
	}
	if c.other = c.stand.jwt(c.user); c.credential.noticed {
		c.another = c.stand.jwt(c.user)
	}
}

// warm gives the service and the credential a past.
func (c *cell) warm() {
	c.known.begin = time.Now()
	if c.service != nil {
		c.wait(c.atBest(), c.other)
	}
	c.ready = time.Now()
	if c.credential.warm && (c.mode.remote || !c.credential.opaque) {
		c.wait(c.atBest(), c.token)
	}
	c.known.end = time.Now()
}

// atBest is what a JWT that was confirmed before the fault is answered.
func (c *cell) atBest() string {
	if c.mode.remote {
		return remembered
	}
	return signed
}

// condemn disables the user and lets the service learn it.
func (c *cell) condemn() {
	if c.credential.bad {
		c.stand.authgear.Disable(c.user)
		c.tell("user.disabled", true)
		c.known.begin = time.Now()
		c.wait("401", c.token)
	}
}

// meet asks for what is only so for a moment after the fault began.
func (c *cell) meet() {
	if c.stand.fault.name == "unsigned" {
		c.tell("user.disabled", false)
	}
	if c.credential.doubted {
		c.tell("user.profile.updated", true)
	}
	switch {
	case c.credential.bad:
		c.first = c.ask(c.token)
		c.within(worthless)
	case c.credential.stale:
		c.within(undisturbed)
	case c.credential.warm, c.credential.name == neverSeen && c.mode.trusts():
		c.first = c.ask(c.token)
		c.within(undisturbed)
	}
}

// use asks for the first time, unless that is done, and again when all bounds
// have passed that the first answer may have rested on.
func (c *cell) use() {
	switch {
	case c.credential.stale:
		// and until what came of the last confirmation in the background is over
		time.Sleep(time.Until(c.known.end.Add(bound + worthless)))
	case c.credential.newKey:
		time.Sleep(time.Until(c.ready.Add(keysGap)))
		c.token = c.stand.jwt(c.user)
	case c.credential.noticed:
		c.settled(c.another)
	case c.credential.cold && c.mode.local && c.stand.part.name != "keys":
		c.service.awaitKeys()
	}
	if c.first == "" {
		c.first = c.ask(c.token)
	}
	if c.credential.stale && c.mode.grace > 0 {
		c.within(bound + c.mode.grace)
	}

	switch {
	case c.credential.stale:
		time.Sleep(time.Until(c.known.end.Add(bound + outageGrace)))
	case c.stand.part.name == "webhook":
		time.Sleep(bound + worthless)
	default:
		time.Sleep(bound)
	}
	if c.stand.part.name == "keys" {
		c.ask(c.stand.jwt(c.user)) // by the new key, so the set is fetched again; in vain
	}
	if c.stand.fault.name == "late" {
		c.tell("user.disabled", true)
	}
	c.later = c.settled(c.token)
	if c.credential.fresh() && c.mode.grace > 0 && c.stand.part.name == "resolver" {
		c.within(bound + c.mode.grace)
	}
}

// recover tells whether everything is as before once the fault is over.
func (c *cell) recover() {
	switch {
	case c.credential.bad, c.credential.opaque && !c.mode.remote:
		c.wait("401", c.token)
	case c.mode.remote:
		c.wait(confirmed, c.token)
	default:
		c.wait(signed, c.token)
	}
}

func (c *cell) ask(token string) string {
	outcome, err := c.service.ask(token, c.user.ID)
	if err != nil {
		c.stand.t.Error(err)
	}
	return outcome
}

// settled asks until an answer does not rest on a signature that Authgear is
// being asked about, if that ever ends.
func (c *cell) settled(token string) (outcome string) {
	for end := time.Now().Add(patience); time.Now().Before(end); time.Sleep(pace) {
		if outcome = c.ask(token); outcome != signed || !c.mode.remote {
			break
		}
	}
	return outcome
}

// wait asks until the outcome begins so.
func (c *cell) wait(want, token string) {
	outcome := ""
	for end := time.Now().Add(patience); time.Now().Before(end); time.Sleep(pace) {
		if outcome = c.ask(token); strings.HasPrefix(outcome, want) {
			return
		}
	}
	c.stand.t.Errorf("%s, %s: still %s after %s, want %s", c.mode.name, c.credential.name, outcome, patience, want)
}

const patience = 10 * time.Second

func (c *cell) tell(event string, isSigned bool) {
	if err := c.service.tell(event, c.user.ID, isSigned); err != nil {
		c.stand.t.Error(err)
	}
}

// within notes if it is longer ago than that that the credential was known.
func (c *cell) within(d time.Duration) {
	if took := time.Since(c.known.begin); took >= d {
		c.late = fmt.Sprintf("%s, %s: asked after %s, not within %s", c.mode.name, c.credential.name, took, d)
	}
}
