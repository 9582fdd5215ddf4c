// Sizing computes what a fleet needs: how often Authgear's resolver is asked, and what Redis
// and the replicas hold. It writes the table of docs/fleet.md, which a test compares; another
// test compares the model with three real replicas.
//
//	go run ./internal/sizing
//	go run ./internal/sizing -update docs/fleet.md
//	go run ./internal/sizing -sessions 200000 -replicas 4 -bound 1m
package main

import (
	"bytes"
	"errors"
	"flag"
	"fmt"
	"os"
	"time"
)

func main() {
	update := flag.String("update", "", "write the table into a `file`, between the marks")
	own := setup{traffic: usual}
	flag.IntVar(&own.sessions, "sessions", 0, "sessions of yours, signed in: one row for them alone")
	flag.IntVar(&own.replicas, "replicas", 3, "replicas of yours")
	flag.DurationVar(&own.bound, "bound", 30*time.Second, "your AUTHGEAR_MAX_STALENESS")
	flag.Float64Var(&own.active, "active", usual.active, "the share of the sessions that are in use at a time")
	flag.DurationVar(&own.every, "every", usual.every, "the time between two requests of a session in use, on average")
	flag.DurationVar(&own.visit, "visit", usual.visit, "how long a session is in use, on average")
	flag.Parse()
	if err := own.check(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	rows := worked
	if own.sessions > 0 {
		rows = []setup{own}
	}
	text := table(rows)
	fmt.Print(text)
	if *update != "" {
		if err := writeInto(*update, text); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
	}
}

// check refuses what the model would not come to an end with.
func (s setup) check() error {
	switch {
	case s.sessions < 0 || s.replicas < 1:
		return errors.New("-sessions, -replicas: must be 1 or more")
	case s.bound < time.Second:
		return errors.New("-bound: must be 1s or more, as AUTHGEAR_MAX_STALENESS")
	case !(s.active > 0 && s.active <= 1):
		return errors.New("-active: must be more than 0, and 1 at most")
	case s.every < time.Millisecond || s.visit < s.every:
		return errors.New("-every, -visit: must be 1ms or more, and -visit no less than -every")
	}
	return nil
}

// Marks in the document, between which the table stands.
const (
	beginMark = "<!-- go run ./internal/sizing -update docs/fleet.md: begin -->\n\n"
	endMark   = "\n<!-- go run ./internal/sizing: end -->\n"
)

func writeInto(file, text string) error {
	page, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	before, rest, begins := bytes.Cut(page, []byte(beginMark))
	_, after, ends := bytes.Cut(rest, []byte(endMark))
	if !begins || !ends {
		return fmt.Errorf("%s lacks the lines %s%s", file, beginMark, endMark)
	}
	return os.WriteFile(file, bytes.Join([][]byte{before, []byte(beginMark), []byte(text), []byte(endMark), after}, nil), 0o644)
}
