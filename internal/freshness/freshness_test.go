package main

import (
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"authgear-forward-auth/internal/lab"
	"authgear-forward-auth/internal/proxytest"
)

// A short form of what the program does: fewer revocations, and a smaller bound.
func TestNo200ComesLaterThanTheBound(t *testing.T) {
	playAll(t, size{bound: time.Second, stall: 3 * time.Second, revocations: 24, atOnce: 24, bystanders: 12}, false)
}

func TestNo200OfAFleetComesLaterThanTheBound(t *testing.T) {
	proxytest.Installed(t, "redis-server")
	playAll(t, size{bound: time.Second, revocations: 24, atOnce: 24, bystanders: 12}, true)
}

func TestAFleetAsksAsOneReplica(t *testing.T) {
	proxytest.Installed(t, "redis-server")
	s := withRedis()
	s.size = size{bound: 2 * time.Second, bystanders: 30}
	if err := s.measure(t.Context(), lab.BuildFor(t)); err != nil {
		t.Fatal(err)
	}
	var report strings.Builder
	setUps{s}.print(&report)
	t.Log(report.String())
	for _, p := range (setUps{s}).problems(1.3) { // where the machine is busy, a new replica asks some by itself
		t.Error(p)
	}
}

// playAll plays all scenarios of a fleet, or of a replica alone. Those of a fleet come one
// after another: a Redis that has to wait for the machine is left alone, and more is asked.
func playAll(t *testing.T, z size, fleets bool) {
	binary := lab.BuildFor(t)
	var all sync.WaitGroup
	results := make([]*result, len(scenarios))
	for i := range scenarios {
		if scenarios[i].isFleet != fleets {
			continue
		}
		if fleets {
			all.Wait()
		}
		all.Go(func() {
			r, err := scenarios[i].play(t.Context(), z, binary)
			if err != nil {
				t.Error(err)
				return
			}
			results[i] = r
			for _, p := range r.problems() {
				t.Error(p)
			}
		})
	}
	all.Wait()
	if !t.Failed() {
		var table strings.Builder
		printTable(&table, slices.DeleteFunc(results, func(r *result) bool { return r == nil }))
		t.Log("\n" + table.String())
	}
}

func TestAFloodOfBadTokensHurtsNobody(t *testing.T) {
	binary := lab.BuildFor(t)
	f, err := playFlood(t.Context(), size{bound: 2 * time.Second, bystanders: 200}, binary, 10_000, 0)
	if err != nil {
		t.Fatal(err)
	}
	var report strings.Builder
	f.print(&report)
	t.Log(report.String())
	for _, p := range f.problems() {
		t.Error(p)
	}
}
