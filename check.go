package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"os"
	"slices"

	"github.com/rs/zerolog"

	"authgear-forward-auth/internal/check"
)

const checkUsage = `Usage: authgear-forward-auth check [flags]

It tells whether the settings in force fit the Authgear that they name: before the service
is started, or beside it. The exit status is 1 if a step failed; a warning is no failure.

`

// inspect is the check command.
func inspect(ctx context.Context, args []string, stdout, stderr io.Writer) error {
	flags := flag.NewFlagSet("check", flag.ContinueOnError)
	flags.SetOutput(stderr)
	flags.Usage = func() {
		fmt.Fprint(stderr, checkUsage)
		flags.PrintDefaults()
	}
	file := flags.String("token", "", "a `file` with a good access token of a user; - is standard input")
	asJSON := flags.Bool("json", false, "write the report as JSON")
	err := flags.Parse(args)
	switch {
	case errors.Is(err, flag.ErrHelp):
		return nil
	case err != nil:
		return err
	case flags.NArg() > 0:
		return errors.New("check takes flags alone: authgear-forward-auth check -h")
	}
	token, err := readToken(*file)
	if err != nil {
		return err
	}
	report := check.Examine(ctx, checkOptions(token))
	write := report.Write
	if *asJSON {
		write = report.WriteJSON
	}
	if err := write(stdout); err != nil {
		return err
	}
	if !report.OK() {
		return errors.New("the service would not work, or not for everybody")
	}
	return nil
}

// checkOptions are the settings in force, or what is wrong with them.
func checkOptions(token string) check.Options {
	set, err := load()
	certs, unread := loadCertificates(set, zerolog.Nop())
	o := check.Options{Warnings: unknownSettings(os.Environ()), Token: token}
	if err != nil || unread != nil {
		told := func(err error) bool { return slices.Contains(o.Warnings, err.Error()) }
		o.Problems = slices.DeleteFunc(append(apart(err), apart(unread)...), told)
		return o
	}
	if certs != nil {
		o.Certificate, o.Unfit = certs.leaf(), unfit(certs.leaf())
	}
	o.Endpoint, o.ResolverURL = set.Endpoint.URL, set.ResolverURL.URL
	o.Local, o.Remote = set.Mode != resolverOnly, set.Mode != jwtOnly
	o.CookiePrefix = string(set.CookiePrefix)
	o.Audiences, o.ClientIDs = set.Audiences, set.ClientIDs
	o.ClockSkew, o.Timeout = set.ClockSkew, set.ResolverTimeout
	o.WebhookSecrets, o.RedisURL = set.WebhookSecret, string(set.RedisURL)
	o.Listen, o.Admin = place(set.Listen), place(set.AdminListen)
	return o
}

// apart returns the errors that were joined.
func apart(err error) []error {
	if err == nil {
		return nil
	}
	if joined, ok := err.(interface{ Unwrap() []error }); ok {
		return joined.Unwrap()
	}
	return []error{err}
}

func place(at address) check.Listener {
	return check.Listener{
		Address: string(at),
		Open:    func() (net.Listener, error) { return tryListener(at) },
		Dial:    func() (net.Conn, error) { return dialListener(at) },
	}
}
