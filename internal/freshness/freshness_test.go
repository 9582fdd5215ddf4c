package main

import (
	"io/fs"
	"os"
	"path/filepath"
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
	binary := buildService(t)
	z := size{bound: time.Second, stall: 3 * time.Second, revocations: 24, atOnce: 24, bystanders: 12}
	results := make([]*result, len(scenarios))
	var all sync.WaitGroup
	for i := range scenarios {
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
		printTable(&table, results)
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
