package main

import (
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// buildService looks at all sources: the service is another program, and else its
// tests would not run again when it has changed.
func buildService(t *testing.T) (binary string) {
	err := filepath.WalkDir("../..", func(path string, _ fs.DirEntry, err error) error {
		if strings.HasSuffix(path, ".go") {
			os.Stat(path)
		}
		return err
	})
	if err == nil {
		binary, err = build(t.TempDir())
	}
	if err != nil {
		t.Fatal(err)
	}
	return binary
}

// A short form of what the program does: fewer revocations, and a smaller bound.
func TestNo200ComesLaterThanTheBound(t *testing.T) {
	playAll(t, size{bound: time.Second, stall: 3 * time.Second, revocations: 24, atOnce: 24, bystanders: 12}, false)
}

func TestNo200OfAFleetComesLaterThanTheBound(t *testing.T) {
	needRedis(t)
	playAll(t, size{bound: time.Second, revocations: 24, atOnce: 24, bystanders: 12}, true)
}

func needRedis(t *testing.T) {
	if _, err := exec.LookPath("redis-server"); err != nil && os.Getenv("CI") == "" {
		t.Skip("redis-server is not installed: make redis-server")
	}
}

func TestAFleetAsksAsOneReplica(t *testing.T) {
	needRedis(t)
	s := withRedis()
	s.size = size{bound: 2 * time.Second, bystanders: 30}
	if err := s.measure(t.Context(), buildService(t)); err != nil {
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
	binary := buildService(t)
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
	binary := buildService(t)
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
