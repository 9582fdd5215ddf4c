// Reliability puts the real service through floods, faults and time, beside users whose
// traffic must not notice, and looks at each answer.
//
// It runs the service as a process, with the development Authgear. It prints a table in
// Markdown, and ends with status 1 if something did not hold.
package main

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"slices"
	"strings"
	"syscall"
	"time"

	"authgear-forward-auth/internal/lab"
)

// A taskFunc does one of the things, and returns what did not hold.
type taskFunc func(ctx context.Context, o options, table, progress io.Writer) (problems []string, err error)

// A task is one of the things that it does.
type task struct {
	name string
	run  taskFunc
}

var tasks = []task{{"floods", playFloods}, {"faults", playFaults}, {"soak", playSoak}, {"memory", playMemory}}

// options say how much is done.
type options struct {
	size
	binary   string
	only     string
	atOnce   int           // faults that are played at a time
	duration time.Duration // of the soak

	credentials int64 // that the cache is to remember
	room        int64 // that it has, in bytes
}

func main() {
	if len(os.Args) > 1 && os.Args[1] == asUsers {
		exitOn(serveUsers(os.Stdin, os.Stdout))
		return
	}
	o := options{size: size{users: 60, quiet: 5 * time.Second, flood: 10 * time.Second, clients: 128, idle: 10_000, hits: 0.99}, atOnce: 4, credentials: 10_000_000, room: 64 << 20}
	flag.StringVar(&o.only, "only", "", "those floods or faults whose names contain this")
	flag.DurationVar(&o.flood, "flood", o.flood, "how long a flood goes on, at least")
	flag.DurationVar(&o.duration, "duration", 30*time.Minute, "of the soak")
	flag.Int64Var(&o.credentials, "credentials", o.credentials, "that are to be remembered")
	share := flag.Bool("share", false, "let the clients of floods share the machine with the users")
	update := flag.String("update", "", "the `file` that the table is written into")
	flag.Usage = func() {
		fmt.Fprintf(flag.CommandLine.Output(), "go run ./internal/reliability [flags] %s\n", strings.Join(taskNames(), "|"))
		flag.PrintDefaults()
	}
	flag.Parse()
	o.aside = !*share
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	exitOn(run(ctx, flag.Arg(0), o, *update, os.Stdout, os.Stderr))
}

func exitOn(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func taskNames() (list []string) {
	for _, t := range tasks {
		list = append(list, t.name)
	}
	return list
}

func run(ctx context.Context, name string, o options, update string, stdout, progress io.Writer) error {
	i := slices.IndexFunc(tasks, func(t task) bool { return t.name == name })
	if i < 0 {
		return fmt.Errorf("which of %s?", strings.Join(taskNames(), ", "))
	}
	dir, err := os.MkdirTemp("", "reliability")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	if o.binary, err = lab.Build(dir); err != nil {
		return err
	}
	var table bytes.Buffer
	problems, err := tasks[i].run(ctx, o, &table, progress)
	if err != nil {
		return err
	}
	stdout.Write(table.Bytes())
	if update != "" {
		if err := lab.WriteInto(update, "reliability "+name, table.String()); err != nil {
			return err
		}
	}
	if len(problems) > 0 {
		return errors.New(strings.Join(problems, "\n"))
	}
	return nil
}

// playFloods plays one flood after the other, each on a stand of its own.
func playFloods(ctx context.Context, o options, table, progress io.Writer) (problems []string, err error) {
	var all []*drowning
	for _, f := range floods {
		if !strings.Contains(f.name, o.only) {
			continue
		}
		fmt.Fprintln(progress, f.name)
		d, err := f.run(ctx, o.binary, o.size)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", f.name, err)
		}
		all = append(all, d)
		problems = append(problems, d.problems()...)
		printFloods(progress, []*drowning{d})
	}
	printFloods(table, all)
	return problems, nil
}
