package main

import (
	"testing"
	"time"

	"authgear-forward-auth/internal/lab"
)

func TestWhatBecameOfASubject(t *testing.T) {
	begin := time.Now()
	at := func(ms int) time.Time { return begin.Add(time.Duration(ms) * time.Millisecond) }
	yes := func(start, end int) lab.Answer { return lab.Answer{Start: at(start), End: at(end), Status: 200} }
	no := func(start, end int) lab.Answer { return lab.Answer{Start: at(start), End: at(end), Status: 401} }
	late := 100 * time.Millisecond
	for _, c := range []struct {
		name    string
		isJWT   bool
		dead    time.Time
		answers []lab.Answer
		want    outcome
	}{
		{"denied at once", false, time.Time{}, []lab.Answer{yes(0, 1), no(1001, 1002)}, outcome{}},
		{"the last 200 is what counts", false, time.Time{}, []lab.Answer{yes(0, 1), yes(1050, 1051), no(1060, 1061), yes(1100, 1103), no(1110, 1111)},
			outcome{last: late, lastEnd: 103 * time.Millisecond, afterTold: 1}},
		{"answered during the revocation", false, time.Time{}, []lab.Answer{yes(0, 1), yes(998, 1002), no(1003, 1004)}, outcome{lastEnd: 2 * time.Millisecond}},
		{"never denied", false, time.Time{}, []lab.Answer{yes(0, 1), yes(1100, 1100)}, outcome{last: late, lastEnd: late, afterTold: 1, unproven: true}},
		{"never accepted", false, time.Time{}, []lab.Answer{no(1001, 1002)}, outcome{unproven: true}},
		{"denied before the revocation", false, time.Time{}, []lab.Answer{yes(0, 1), no(500, 501), no(1001, 1002)}, outcome{wrong: 1}},
		{"another user, an outage, no answer, an error", false, time.Time{}, []lab.Answer{yes(0, 1), no(1001, 1002),
			{Start: at(2), End: at(3), Status: 200, Wrong: true}, {Start: at(2), End: at(3), Status: 503}, {Start: at(2), End: at(3)}, {Start: at(2), End: at(3), Status: 500}},
			outcome{wrong: 2, unavailable: 1, nothing: 1}},
		{"a JWT revoked before the new process saw it", true, at(1500), []lab.Answer{yes(0, 1), no(1100, 1101), yes(1600, 1604), yes(1602, 1607), no(1610, 1611)},
			outcome{onSignature: 2, onSignatureFor: 7 * time.Millisecond}},
		{"a token that is no JWT has no exception", false, at(1050), []lab.Answer{yes(0, 1), yes(1100, 1100), no(1110, 1111)}, outcome{last: late, lastEnd: late, afterTold: 1}},
		{"nor has a JWT that the new process saw in time", true, at(500), []lab.Answer{yes(0, 1), yes(600, 601), yes(1100, 1100), no(1110, 1111)},
			outcome{last: late, lastEnd: late, afterTold: 1}},
	} {
		s := &subject{Session: &lab.Session{IsJWT: c.isJWT}, revoking: at(999), revoked: at(1000), told: at(1070), answers: c.answers}
		if have := s.outcome(c.dead); have != c.want {
			t.Errorf("%s: %+v, want %+v", c.name, have, c.want)
		}
	}
}

func TestABrokenPromiseIsToldOf(t *testing.T) {
	z := size{bound: time.Second}
	for want, r := range map[int]*result{
		0: {scenario: &scenario{onSignature: true}, last: []time.Duration{0, z.bound}, onSignature: 1, longestSign: time.Second},
		1: {scenario: &scenario{}, last: []time.Duration{0, z.bound + 1}},
		6: {scenario: &scenario{tells: true}, onSignature: 1, longestSign: 3 * time.Second, afterTold: 1, wrong: 1, unproven: 1, tooMany: true},
	} {
		r.size = z
		if have := r.problems(); len(have) != want {
			t.Errorf("%q, want %d problems", have, want)
		}
	}
	slow := []time.Duration{time.Second}
	if r := (&result{scenario: &scenario{soon: 50 * time.Millisecond}, last: slow}); len(r.tooLate()) != 1 {
		t.Error("a slow webhook is not told of")
	}
	if r := (&result{scenario: &scenario{}, last: slow}); len(r.tooLate()) != 0 {
		t.Error("polling is taken for a webhook")
	}
}
