//go:build linux

// Bench measures what the service costs, beside the least that the same work would
// cost by others: a bare fasthttp handler, a bare lookup in ristretto, a loop of crypto/rsa.
//
// Servers run as processes of their own on one core, the load on another. Floor
// and service are measured in turn, a moment each, and what counts is the median of
// the ratios of many such rounds, so that what else the machine does falls on both;
// the quartiles stand beside it and show how quiet it was. It prints a table in
// Markdown.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"runtime"
	"strings"
	"syscall"
	"time"

	"authgear-forward-auth/internal/lab"
)

// The cores.
const (
	serverCore = 0
	loadCore   = 1
)

func main() {
	if help := helper(os.Args[1:]); help != nil {
		exitOn(help())
		return
	}
	z := size{short: turns{101, window}, long: turns{15, 2 * time.Second}, few: 10_000, many: 1_000_000, unseen: 20_000}
	only := flag.String("only", "", "the rows whose names contain this: "+strings.Join(rowNames(), ", "))
	quick := flag.Bool("quick", false, "short rounds and fewer credentials: to see that it works")
	update := flag.String("update", "", "the `file` that the table is written into")
	profile := flag.String("profile", "", "measure nothing, and write a profile of the service into this `file`, for Go's compiler")
	flag.IntVar(&z.short.rounds, "rounds", z.short.rounds, "of each comparison whose measurements are short")
	flag.Parse()
	if *quick {
		z = size{short: turns{11, window}, long: turns{3, 3 * window}, few: 1_000, many: 50_000, unseen: 2_000}
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	exitOn(run(ctx, z, func(b *bench) error {
		if *profile != "" {
			return b.profile(*profile)
		}
		return b.table(*only, *update, os.Stdout, os.Stderr)
	}))
}

func exitOn(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// size is how much is measured.
type size struct {
	short     turns
	long      turns // of what needs a new process for each measurement, or time
	few, many int   // credentials
	unseen    int   // JWTs that are sent once
}

// turns are the rounds of a comparison, and how long each measurement takes.
type turns struct {
	rounds int
	each   time.Duration
}

// run builds what a bench needs, and lets it do something.
func run(ctx context.Context, z size, do func(*bench) error) error {
	if runtime.NumCPU() < 2 {
		return errors.New("the load needs a core of its own: this machine has one")
	}
	dir, err := os.MkdirTemp("", "bench")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	if err := os.Chmod(dir, 0o755); err != nil { // nginx may run as another user
		return err
	}
	b := &bench{size: z, dir: dir, ctx: ctx}
	if err := b.build(); err != nil {
		return err
	}
	return do(b)
}

// table measures the rows, and prints them.
func (b *bench) table(only, update string, stdout, progress io.Writer) error {
	var lines []line
	for _, r := range rows {
		if !strings.Contains(r.name, only) {
			continue
		}
		fmt.Fprintln(progress, r.name)
		got, err := b.play(r)
		if err != nil {
			return fmt.Errorf("%s: %w", r.name, err)
		}
		printLines(progress, got)
		lines = append(lines, got...)
	}
	report := b.report(lines)
	fmt.Fprint(stdout, report)
	if update != "" {
		return lab.WriteInto(update, "make bench", report)
	}
	return nil
}
