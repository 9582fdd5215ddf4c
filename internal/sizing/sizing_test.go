package main

import (
	"math"
	"math/rand/v2"
	"os"
	"strings"
	"testing"
	"time"
)

func TestThePageHasTheTable(t *testing.T) {
	page, err := os.ReadFile("../../docs/fleet.md")
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(page), beginMark+table(worked)+endMark) {
		t.Error("docs/fleet.md says otherwise than the model. Run: go run ./internal/sizing -update docs/fleet.md")
	}
}

// What can be worked out without a simulation.
func TestTheModelInCasesThatAreKnown(t *testing.T) {
	steady := func(every float64, replicas int) (list []request) {
		for i := range 1 + int(3000/every) {
			list = append(list, request{float64(i) * every, i % replicas})
		}
		return list
	}
	for _, tt := range []struct {
		name                string
		requests            []request
		replicas            int
		redis               bool
		least, most         int // questions
		leastLook, mostLook int
	}{
		// Each 30 s bound asks after 18 to 24 s, at the next request.
		{"one replica, in use all the time", steady(1, 1), 1, false, 3000 / 25, 3000/18 + 1, 0, 0},
		{"one replica with Redis", steady(1, 1), 1, true, 3000 / 25, 3000/18 + 1, 3000 / 25, 3000/18 + 1},
		{"three alone", steady(1, 3), 3, false, 3 * 3000 / 27, 3 * (3000/18 + 1), 0, 0},
		{"three with Redis", steady(1, 3), 3, true, 3000 / 25, 3000/18 + 1, 3 * 3000 / 27, 3 * (3000/18 + 20)},
		// Each request comes too late for what is known, and is followed by another question.
		{"seldom used", steady(100, 1), 1, false, 2 * 31, 2 * 31, 0, 0},
		{"once", steady(5000, 1), 1, false, 2, 2, 0, 0},
		{"once, with Redis", steady(5000, 1), 1, true, 2, 2, 2, 2},
	} {
		m := newModel(rand.New(rand.NewPCG(1, 2)), tt.replicas, 30, tt.redis)
		m.play(tt.requests, math.Inf(1))
		if m.questions < tt.least || m.questions > tt.most || m.looks < tt.leastLook || m.looks > tt.mostLook {
			t.Errorf("%s: %d questions and %d looks, want %d to %d and %d to %d", tt.name, m.questions, m.looks, tt.least, tt.most, tt.leastLook, tt.mostLook)
		}
	}
}

// A fleet asks Authgear no more for having more replicas.
func TestMoreReplicasAskNoMore(t *testing.T) {
	one := setup{100_000, 1, 30 * time.Second, usual}.needs(false).questions
	for _, replicas := range []int{3, 10, 100} {
		if many := (setup{100_000, replicas, 30 * time.Second, usual}).needs(true).questions; many > 1.25*one {
			t.Errorf("%d replicas ask %.0f times a second, one asks %.0f times", replicas, many, one)
		}
	}
}

func TestASetupThatCannotBe(t *testing.T) {
	for name, change := range map[string]func(*setup){
		"no replica": func(s *setup) { s.replicas = 0 }, "all at once": func(s *setup) { s.every = 0 }, "no bound": func(s *setup) { s.bound = 0 },
		"nobody": func(s *setup) { s.active = 0 }, "no visit": func(s *setup) { s.visit = 0 }, "less than no session": func(s *setup) { s.sessions = -1 },
	} {
		s := worked[0]
		if err := s.check(); err != nil {
			t.Fatal(err)
		}
		change(&s)
		if s.check() == nil {
			t.Errorf("%s: no error", name)
		}
	}
}
