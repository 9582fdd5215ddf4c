// Freshness measures the promise that the service makes: how long after a
// revocation the last request is answered 200.
//
// It runs the real service as a process, with the development Authgear, and
// revokes sessions at random moments while clients use them. It prints a table
// in Markdown, and ends with status 1 if the promise was broken. The bound is
// smaller than the service's default, so that this takes minutes.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"authgear-forward-auth/internal/lab"
)

func main() {
	z := size{stall: 10 * time.Second, atOnce: 250, bystanders: 200}
	flag.DurationVar(&z.bound, "bound", 5*time.Second, "AUTHGEAR_MAX_STALENESS")
	flag.IntVar(&z.revocations, "revocations", 1000, "in each scenario")
	flag.IntVar(&z.atOnce, "at-once", z.atOnce, "so many of them at a time")
	only := flag.String("only", "", "the scenarios whose names contain this")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, z, *only, os.Stdout, os.Stderr); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// Bad tokens of a flood, and how long it goes on at least.
const (
	badTokens = 50_000
	floodTime = 10 * time.Second
)

func run(ctx context.Context, z size, only string, stdout, progress io.Writer) error {
	dir, err := os.MkdirTemp("", "freshness")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	binary, err := lab.Build(dir)
	if err != nil {
		return err
	}
	var results []*result
	var problems []string
	for _, sc := range scenarios {
		if !strings.Contains(sc.name, only) {
			continue
		}
		fmt.Fprintln(progress, sc.name)
		r, err := sc.play(ctx, z, binary)
		if err != nil {
			return err
		}
		results = append(results, r)
		problems = append(append(problems, r.problems()...), r.tooLate()...)
	}
	printTable(stdout, results)
	if strings.Contains("fleet, side by side", only) {
		fmt.Fprintln(progress, "fleet, side by side")
		setUps, err := sideBySide(ctx, z, binary)
		if err != nil {
			return err
		}
		problems = append(problems, setUps.problems(1.1)...)
		setUps.print(stdout)
	}
	if strings.Contains("flood", only) {
		fmt.Fprintln(progress, "flood")
		f, err := playFlood(ctx, z, binary, badTokens, floodTime)
		if err != nil {
			return err
		}
		problems = append(problems, f.problems()...)
		f.print(stdout)
	}
	if len(problems) > 0 {
		return errors.New(strings.Join(problems, "\n"))
	}
	return nil
}
