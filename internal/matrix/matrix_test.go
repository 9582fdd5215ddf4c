// Package matrix finds out what is answered while a part of Authgear fails: for
// each part, fault, credential and mode. docs/outages.md shows what it found; the
// test fails when a cell is no longer true, and with -update writes it anew.
package matrix

import (
	"flag"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// The bounds are as short as a busy machine allows. What has to happen within
// one of them is looked at: if it came too late, the stand is set up again.
const (
	bound       = 6 * time.Second       // AUTHGEAR_MAX_STALENESS
	outageGrace = 6 * time.Second       // AUTHGEAR_OUTAGE_GRACE where it is set
	timeout     = 2 * time.Second       // AUTHGEAR_RESOLVER_TIMEOUT
	pace        = 50 * time.Millisecond // of an answer
	slow        = 500 * time.Millisecond

	undisturbed = bound * 6 / 10  // a session is confirmed in the background no sooner
	worthless   = 2 * time.Second // so long a credential is remembered as worthless
	keysGap     = 5 * time.Second // so long a set of keys is taken to be complete
)

// A mode is a column: what the settings say.
type mode struct {
	name         string
	local        bool // JWTs are checked here
	remote       bool // Authgear is asked
	confirmFirst bool
	grace        time.Duration
}

var modes = []mode{
	{name: "`hybrid`", local: true, remote: true},
	{name: "`hybrid`, confirm `before`", local: true, remote: true, confirmFirst: true},
	{name: "`hybrid`, with grace", local: true, remote: true, grace: outageGrace},
	{name: "`resolver`", remote: true},
	{name: "`jwt`", local: true},
}

// trusts tells whether a JWT is answered on its signature while Authgear is asked.
func (m mode) trusts() bool { return m.local && m.remote && !m.confirmFirst }

// A credential is a row: what it is, and what became of it before the fault.
type credential struct {
	name   string
	opaque bool

	warm  bool // it was confirmed (in mode jwt: accepted)
	stale bool // that is longer ago than the bound when it is used again
	bad   bool // its user was disabled then, and it was refused

	doubted bool // an event tells after the fault began that its user has changed
	noticed bool // another request has met the fault before
	newKey  bool // it is signed by a key that was published after the fault began
	cold    bool // the service is started after the fault began
}

func (c credential) fresh() bool { return c.warm && !c.stale && !c.bad && !c.doubted }

const neverSeen = "JWT, never seen"

var credentials = []credential{
	{name: "JWT, confirmed within the bound", warm: true},
	{name: "JWT, confirmed longer ago", warm: true, stale: true},
	{name: neverSeen},
	{name: "opaque token, never seen", opaque: true},
	{name: "JWT, known to be bad", warm: true, bad: true},
	{name: "opaque token, known to be bad", opaque: true, warm: true, bad: true},
}

// Those for whom it matters what happened since the fault began.
var (
	doubted = credential{name: "JWT, confirmed within the bound, an event of its user since", warm: true, doubted: true}
	noticed = credential{name: "JWT, never seen, others have met the fault", noticed: true}
	newKey  = credential{name: "JWT, never seen, of a key published since", newKey: true}
	cold    = credential{name: "JWT, the service was started since", cold: true}
)

// A part is what fails.
type part struct {
	name, title string
	faults      []fault
	credentials []credential
}

var parts = []part{
	{"resolver", "The resolver", faults, with(doubted, noticed, cold)},
	{"keys", "The keys", faults, with(newKey, cold)},
	{"webhook", "An event", []fault{{name: "lost"}, {name: "unsigned"}, {name: "late"}}, credentials},
}

// with puts more among the JWTs.
func with(more ...credential) []credential {
	return slices.Insert(slices.Clone(credentials), 3, more...)
}

var update = flag.Bool("update", false, "write docs/outages.md anew")

func TestMain(m *testing.M) {
	flag.Parse()
	flag.Set("test.parallel", "20") // they wait for each other's bounds, not for a processor
	trustTheFronts()
	go countStalls()
	os.Exit(m.Run())
}

func TestEveryFaultHasOneOutcome(t *testing.T) {
	table := &table{cells: map[place]string{}}
	t.Run("while", func(t *testing.T) {
		for _, p := range parts {
			for _, f := range p.faults {
				t.Run(p.name+" "+f.name, func(t *testing.T) {
					t.Parallel()
					for _, c := range settle(t, p, f) {
						c.judge()
						table.set(place{p.name, f.name, c.credential.name, c.mode.name}, c.outcome())
					}
				})
			}
		}
	})
	if strings.Contains(flag.Lookup("test.run").Value.String(), "/") {
		t.Log("not compared with the document: only some faults were asked for")
		return
	}
	if !t.Failed() {
		table.compare(t, "../../docs/outages.md")
	}
}

// settle returns the cells of one fault, with their outcomes.
func settle(t *testing.T, p part, f fault) []*cell {
	for range 5 {
		st := newStand(t, p, f)
		if st.late() == "" {
			st.run()
		}
		if st.late() == "" {
			return st.cells
		}
		t.Logf("once more, since this machine is busy: %s", st.late())
	}
	t.Fatal("this machine is too busy to tell")
	return nil
}

// judge tells of outcomes that are wrong whatever the table says.
func (c *cell) judge() {
	kind, lostEvent := c.credential, c.stand.part.name == "webhook"
	for _, outcome := range []string{c.first, c.later} {
		status, _, _ := strings.Cut(outcome, " ")
		switch {
		case status != "200" && status != "401" && status != "503":
			c.wrong("not an answer to expect")
		case status == "200" && kind.bad:
			c.wrong("who is known to be bad never comes back")
		case status == "401" && !kind.bad && !lostEvent && (c.mode.remote || !kind.opaque):
			c.wrong("an outage is no sign-out")
		}
	}
	switch {
	case kind.fresh() && !strings.HasPrefix(c.first, "200"):
		c.wrong("what is fresh passes without Authgear")
	case c.later == signed && c.mode.remote:
		c.wrong("a signature is enough for one round trip, no longer")
	case c.later == remembered && (c.mode.grace == 0 || kind.stale):
		c.wrong("no 200 rests on a confirmation older than the bound and the grace")
	case lostEvent && c.mode.remote && !strings.HasPrefix(c.later, "401"):
		c.wrong("a lost event costs no more than the bound")
	}
}

func (c *cell) wrong(why string) {
	c.stand.t.Errorf("%s, %s: %s: %s", c.mode.name, c.credential.name, c.outcome(), why)
}

// each calls f for each cell, all at once.
func each(cells []*cell, f func(*cell)) {
	var all sync.WaitGroup
	for _, c := range cells {
		all.Go(func() { f(c) })
	}
	all.Wait()
}
