package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"

	"github.com/rs/zerolog"

	"authgear-forward-auth/internal/explain"
	"authgear-forward-auth/resolver"
)

const explainUsage = `Usage: authgear-forward-auth explain [flags] [FILE]

It tells, step by step, why a credential passes or not: with the settings of the
environment, the keys and the answers that Authgear gives now. The credential comes from
FILE, or from standard input: a token alone, or the lines "Authorization: …" and
"Cookie: …" of a request. It stands in nothing that is printed. A running service tells
the same, with what it remembers: POST it to /explain of the admin listener.

It ends with status 0 if the request would pass, and with 1 if not.

`

func explainCommand(ctx context.Context, args []string, stdin io.Reader, stdout io.Writer) error {
	flags := flag.NewFlagSet("explain", flag.ContinueOnError)
	flags.SetOutput(io.Discard) // what is no flag would be quoted, and may be the credential
	policy := flags.String("policy", "", "the policy of the route, as in the query of the auth path: 'role=admin&verified'")
	asJSON := flags.Bool("json", false, "print JSON")
	if err := flags.Parse(args); err != nil {
		if errors.Is(err, flag.ErrHelp) {
			fmt.Fprint(stdout, explainUsage)
			flags.SetOutput(stdout)
			flags.PrintDefaults()
			return nil
		}
		return errors.New("a flag that there is not, or one without its value, or with a wrong one: explain -h tells more; the credential comes from FILE, or from standard input")
	}
	if flags.NArg() > 1 {
		return errors.New("one FILE at most, behind the flags")
	}
	if flags.NArg() == 1 {
		file, err := os.Open(flags.Arg(0))
		if err != nil {
			return fmt.Errorf("FILE: %w", errors.Unwrap(err)) // a name that is none may be the token itself
		}
		defer file.Close()
		stdin = file
	}
	text, err := io.ReadAll(io.LimitReader(stdin, 1<<20))
	if err != nil {
		return fmt.Errorf("read the credential: %w", err)
	}
	fields, err := explain.Read(text)
	if err != nil {
		return err
	}
	set, err := load()
	if err != nil {
		return fmt.Errorf("settings:\n%w", err)
	}
	for _, hint := range unknownSettings(os.Environ()) {
		fmt.Fprintln(os.Stderr, hint)
	}
	service, err := assemble(set, zerolog.Nop())
	if err != nil {
		return err
	}
	explainer := service.explainer()
	if service.fleet != nil { // which this command does not join
		explainer.Fleet = func(context.Context, resolver.Credentials) string {
			return "not asked: POST the same to /explain of a running replica, which knows what they share"
		}
	}
	report := explainer.Explain(ctx, fields, *policy)
	if *asJSON {
		if err := json.NewEncoder(stdout).Encode(report); err != nil {
			return err
		}
	} else {
		report.Print(stdout)
	}
	if report.Verdict != "allow" {
		return errDenied
	}
	return nil
}

// errDenied ends explain with status 1, without a word: the report has said why.
var errDenied = errors.New("denied")
