package main

import (
	"context"
	"crypto/tls"
	"errors"
	"flag"
	"fmt"
	"io"
	"io/fs"
	"log"
	"net"
	"net/http"
	"net/url"
	"os"
	"slices"
	"strings"
	"time"

	"authgear-forward-auth/internal/doctor"
)

const doctorUsage = `Usage: authgear-forward-auth doctor [flags] URL

It finds the holes of a proxy in front of an application. URL is a protected route of the
proxy, which meanwhile leads to the doctor in place of the application. The exit status
is 1 if there are findings, or no examination.

`

// doctorFlags are those of the doctor command.
type doctorFlags struct {
	doctor.Options
	echo, token string
	json        bool
}

// diagnose is the doctor command.
func diagnose(ctx context.Context, args []string, stdout, stderr io.Writer) error {
	f, err := readDoctorFlags(args, stderr)
	if errors.Is(err, flag.ErrHelp) {
		return nil
	}
	if err != nil {
		return err
	}
	l, err := net.Listen("tcp", f.echo)
	if err != nil {
		return fmt.Errorf("-echo: %w", err)
	}
	echo := new(doctor.Echo)
	server := &http.Server{Handler: echo, ReadTimeout: 30 * time.Second, ErrorLog: log.New(io.Discard, "", 0)}
	go server.Serve(l)
	defer server.Close()
	report, err := doctor.Examine(ctx, echo, f.Options)
	if err != nil {
		return err
	}
	write := report.Write
	if f.json {
		write = report.WriteJSON
	}
	if err := write(stdout); err != nil {
		return err
	}
	if len(report.Findings) > 0 {
		return errors.New("the proxy has holes")
	}
	return nil
}

func readDoctorFlags(args []string, stderr io.Writer) (f doctorFlags, err error) {
	set := flag.NewFlagSet("doctor", flag.ContinueOnError)
	set.SetOutput(stderr)
	set.Usage = func() {
		fmt.Fprint(stderr, doctorUsage)
		set.PrintDefaults()
	}
	set.StringVar(&f.echo, "echo", "127.0.0.1:4182", "the `address` to which the route leads")
	set.StringVar(&f.token, "token", "", "a `file` with a good access token; - is standard input")
	set.StringVar(&f.CookiePrefix, "cookie-prefix", trim(os.Getenv("AUTHGEAR_COOKIE_PREFIX")), "the `prefix` of cookies, http.cookie_prefix of the project; default $AUTHGEAR_COOKIE_PREFIX")
	set.StringVar(&f.Proxy, "proxy", "", "the `name` of the proxy: "+strings.Join(doctor.Proxies(), ", "))
	set.BoolVar(&f.Optional, "optional", false, "visitors may pass on this route")
	set.BoolVar(&f.json, "json", false, "write the report as JSON")
	insecure := set.Bool("insecure", false, "take any TLS certificate")
	if err := set.Parse(args); err != nil {
		return f, err
	}
	f.TLS = &tls.Config{InsecureSkipVerify: *insecure}
	if set.NArg() != 1 {
		return f, errors.New("one URL is needed, behind the flags: authgear-forward-auth doctor -h")
	}
	if f.URL, err = url.Parse(set.Arg(0)); err != nil || f.URL.Scheme != "http" && f.URL.Scheme != "https" || f.URL.Hostname() == "" || f.URL.User != nil {
		return f, errors.New("URL: must begin with https:// (or http://) and a host, and name no user")
	}
	if f.Proxy != "" && !slices.Contains(doctor.Proxies(), f.Proxy) {
		return f, fmt.Errorf("-proxy: must be one of %v, not %q", doctor.Proxies(), f.Proxy)
	}
	f.Token, err = readToken(f.token)
	return f, err
}

// readToken reads an access token. No error quotes it.
func readToken(file string) (string, error) {
	var text []byte
	var err error
	switch file {
	case "":
		return "", nil
	case "-":
		text, err = io.ReadAll(io.LimitReader(os.Stdin, 64<<10))
	default:
		text, err = os.ReadFile(file)
	}
	if pathErr := (*fs.PathError)(nil); errors.As(err, &pathErr) {
		err = pathErr.Err // the path may be the token itself, by mistake
	}
	if err != nil {
		return "", fmt.Errorf("-token: the file cannot be read: %w", err)
	}
	token := strings.TrimSpace(string(text))
	odd := func(c rune) bool { return c <= ' ' || c >= 0x7f || strings.ContainsRune(`",;\`, c) }
	if token == "" || strings.ContainsFunc(token, odd) {
		return "", errors.New("-token: the file must hold an access token and nothing else")
	}
	return token, nil
}
