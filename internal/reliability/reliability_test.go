package main

import (
	"net/http"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"authgear-forward-auth/internal/authgeartest"
	"authgear-forward-auth/internal/lab"
)

// TestMain lets the test's program be the users, as the program does.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == asUsers {
		exitOn(serveUsers(os.Stdin, os.Stdout))
		return
	}
	os.Exit(m.Run())
}

// Short forms of what the program does. How fast anything was is not looked at.

func TestNoFloodHurtsUsers(t *testing.T) {
	t.Parallel()
	binary := lab.BuildFor(t)
	z := size{users: 12, quiet: time.Second, flood: time.Second, clients: 32, idle: 1000, hits: 0.9}
	var all sync.WaitGroup
	few := make(chan bool, 4)
	for i := range floods {
		all.Go(func() {
			few <- true
			defer func() { <-few }()
			d, err := floods[i].run(t.Context(), binary, z)
			if err != nil {
				t.Errorf("%s: %v", floods[i].name, err)
				return
			}
			for _, p := range d.problems() {
				t.Error(p)
			}
		})
	}
	all.Wait()
}

func TestNoFaultMakesAWrongAnswer(t *testing.T) {
	t.Parallel()
	played(t, playFaults, options{atOnce: 5})
}

func TestASoak(t *testing.T) {
	t.Parallel()
	played(t, playSoak, options{duration: 25 * time.Second})
}

// The memory of this process is that of all its tests, so only the service's is looked at.
func TestWhatHasNoRoomIsForgotten(t *testing.T) {
	t.Parallel()
	o := options{binary: lab.BuildFor(t), credentials: 400_000, room: 2 << 20}
	s, err := stuffService(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	o.credentials /= 33
	cached, err := stuffCache(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	cached.most = 0
	for _, p := range append(s.problems(), cached.problems()...) {
		t.Error(p)
	}
	if s.evictions == 0 || cached.evictions == 0 {
		t.Error("there was room for all")
	}
}

func played(t *testing.T, play taskFunc, o options) {
	o.binary = lab.BuildFor(t)
	var table strings.Builder
	problems, err := play(t.Context(), o, &table, &table)
	if err != nil {
		t.Fatal(err)
	}
	t.Log("\n" + table.String())
	for _, p := range problems {
		t.Error(p)
	}
}

// What the oracle says of an answer, if anything.
func TestTheOracle(t *testing.T) {
	begin := time.Now().Add(-time.Minute)
	at := func(s float64) time.Time { return begin.Add(time.Duration(s * float64(time.Second))) }
	got := func(s float64, status int) lab.Answer {
		return lab.Answer{Start: at(s), End: at(s + 0.01), Status: status, Roles: "first"}
	}
	somebody := func(change ...func(*person)) *person {
		p := &person{Session: &lab.Session{User: &authgeartest.User{ID: "ada"}}, roles: []role{{"first", begin}}, sighted: at(0)}
		for _, f := range change {
			f(p)
		}
		return p
	}
	jwt := func(p *person) { p.IsJWT = true }
	signedOut := func(p *person) { p.revoking, p.revoked = at(20), at(20) }
	told := func(p *person) { p.told = at(20) }
	promoted := func(p *person) { p.roles = append(p.roles, role{"second", at(20)}) }
	of := func(a lab.Answer, change func(*lab.Answer)) lab.Answer {
		change(&a)
		return a
	}
	for _, c := range []struct {
		name   string
		who    *person
		answer lab.Answer
		want   string
	}{
		{"a user passes", somebody(), got(10, 200), ""},
		{"a user is denied", somebody(), got(10, 401), "is signed in"},
		{"a user is denied in an outage", somebody(), got(31, 401), "is signed in"},
		{"503 without a reason", somebody(), got(10, 503), "nobody is away"},
		{"503 in an outage", somebody(), got(31, 503), ""},
		{"503 long after it", somebody(), got(40, 503), "nobody is away"},
		{"no answer", somebody(), got(10, 0), "no answer"},
		{"no answer in a restart", somebody(), got(45.1, 0), ""},
		{"another status", somebody(), got(10, 500), "not an answer to expect"},
		{"somebody else", somebody(), of(got(10, 200), func(a *lab.Answer) { a.Wrong = true }), "somebody else is named"},
		{"signed out, within the bound", somebody(signedOut), got(24, 200), ""},
		{"signed out, beyond it", somebody(signedOut), got(25.1, 200), "was signed out longer ago than the bound"},
		{"signed out, beyond it, in an outage", somebody(signedOut), got(31, 200), "was signed out longer ago than the bound"},
		{"signed out, and the service told", somebody(signedOut, told), got(20.1, 200), "the service was told of the end"},
		{"signed out and denied", somebody(signedOut), got(20.1, 401), ""},
		{"a JWT that a new process sees first", somebody(jwt, signedOut), got(46, 200), ""},
		{"an opaque token that it sees first", somebody(signedOut), got(46, 200), "was signed out longer ago than the bound"},
		{"the new role", somebody(promoted), of(got(21, 200), func(a *lab.Answer) { a.Roles = "second" }), ""},
		{"the role before it is given", somebody(promoted), of(got(19, 200), func(a *lab.Answer) { a.Roles = "second" }), "the role is out of date"},
		{"the old role, beyond the bound", somebody(promoted), got(27, 200), "the role is out of date"},
	} {
		o := newOracle(5*time.Second, time.Second)
		o.started = at(0)
		if c.answer.Start.After(at(45)) {
			o.started = at(45.5)
		}
		o.faults, o.downs = []span{{at(30), at(33)}}, []span{{at(45), at(45.5)}}
		o.judge(c.who, c.answer)
		if got := strings.Join(o.problems(""), ""); c.want == "" && got != "" || !strings.Contains(got, c.want) {
			t.Errorf("%s: %q, want %q", c.name, got, c.want)
		}
	}
}

func TestAFloodThatHurtsIsToldOf(t *testing.T) {
	well := func() *drowning {
		s := sample{Answers: 1000, hits: 990}
		return &drowning{flood: &flood{name: "f", wants: []int{http.StatusUnauthorized}}, strangers: &strangers{size: size{hits: 0.99}, answered: map[int]int{401: 9}},
			took: 10 * time.Second, before: s, during: s, after: s}
	}
	if list := well().problems(); len(list) > 0 {
		t.Error(list)
	}
	for want, harm := range map[string]func(*drowning){
		"1 a 503":                   func(d *drowning) { d.during.Unavailable = 1 },
		"the hit ratio":             func(d *drowning) { d.during.hits = 900 },
		"33 questions at once":      func(d *drowning) { d.asks, d.questions.MostStrangers = true, 33 },
		"that Authgear did":         func(d *drowning) { d.questions.StrangerJWTs = 1 },
		"4 fetches":                 func(d *drowning) { d.keyFetches = 4 },
		"of memory":                 func(d *drowning) { d.mostMemory = 1 << 30 },
		"1 times the answer was 20": func(d *drowning) { d.answered[200] = 1 },
		"did not take place":        func(d *drowning) { d.answered = map[int]int{} },
		"too late":                  func(d *drowning) { d.problem("too late") },
	} {
		d := well()
		harm(d)
		if list := d.problems(); len(list) != 1 || !strings.Contains(list[0], want) {
			t.Errorf("%s: %q", want, list)
		}
	}
}
