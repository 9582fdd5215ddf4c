package check

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"unicode"

	"authgear-forward-auth/internal/prose"
)

// A Report is what an examination found. No credential and no secret is in it.
type Report struct {
	Steps []Step `json:"steps"`
}

// A Step is one thing that was to be found out. That of the settings may be there
// several times, once for each problem.
type Step struct {
	Name   string `json:"step"`
	Status Status `json:"status"`
	Found  string `json:"found"`          // why not, if it was skipped
	Cure   string `json:"cure,omitempty"` // of a warning or a failure
}

// A Status is how a step came out.
type Status string

// The statuses of a step. Only Failed is a fault.
const (
	Passed  Status = "pass"
	Warned  Status = "warn"
	Failed  Status = "fail"
	Skipped Status = "skipped"
)

// A finding is a step without its name.
type finding struct {
	status      Status
	found, cure string
}

func pass(format string, args ...any) finding {
	return finding{Passed, fmt.Sprintf(format, args...), ""}
}
func skipped(format string, args ...any) finding {
	return finding{Skipped, fmt.Sprintf(format, args...), ""}
}
func warn(found, cure string) finding { return finding{Warned, found, cure} }
func fail(found, cure string) finding { return finding{Failed, found, cure} }

// split parts a text that names a problem and its cure.
func split(text string) (found, cure string) {
	if i := strings.LastIndex(text, ": "); i >= 0 && strings.HasSuffix(text, "?") {
		return text[:i], text[i+2:]
	}
	found, cure, _ = strings.Cut(text, ": ")
	return found, cure
}

const isItUp = "is Authgear up? If it is only slow, give it more time by AUTHGEAR_RESOLVER_TIMEOUT"

// because reports an error, with the cure that it names, else with that for what
// does not answer, else with another.
func because(err error, cure string) finding {
	var network interface{ Timeout() bool }
	switch text := err.Error(); {
	case strings.HasSuffix(text, "?"):
		return fail(split(text))
	case errors.As(err, &network):
		return fail(text, isItUp)
	default:
		return fail(text, cure)
	}
}

// printable keeps what a server says from steering a terminal.
func printable(text string) string {
	const most = 600
	if runes := []rune(text); len(runes) > most {
		text = string(runes[:most]) + "…"
	}
	return strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) {
			return '\uFFFD'
		}
		return r
	}, text)
}

// OK tells whether no step failed.
func (r *Report) OK() bool { return r.count(Failed) == 0 }

func (r *Report) count(s Status) (n int) {
	for _, step := range r.Steps {
		if step.Status == s {
			n++
		}
	}
	return n
}

// Write writes the report as text of some 90 columns.
func (r *Report) Write(w io.Writer) error {
	var b strings.Builder
	var alike []string // skipped for one reason
	for i, s := range r.Steps {
		if s.Status != Skipped {
			s.write(&b)
			continue
		}
		alike = append(alike, s.Name)
		if i+1 == len(r.Steps) || r.Steps[i+1].Status != Skipped || r.Steps[i+1].Found != s.Found {
			prose.Wrap(&b, "skipped  ", indent, strings.Join(alike, ", ")+": "+s.Found)
			alike = nil
		}
	}
	fmt.Fprintf(&b, "\n%s: %d passed, %s, %d failed, %d skipped.\n", prose.Count(len(r.Steps), "step"), r.count(Passed),
		prose.Count(r.count(Warned), "warning"), r.count(Failed), r.count(Skipped))
	_, err := io.WriteString(w, b.String())
	return err
}

const indent = "         "

func (s Step) write(b *strings.Builder) {
	label := map[Status]string{Passed: "ok", Warned: "WARNING", Failed: "FAILED"}[s.Status]
	prose.Wrap(b, fmt.Sprintf("%-8s ", label), indent, s.Name+": "+s.Found)
	if s.Cure != "" {
		prose.Wrap(b, indent+"> ", indent+"  ", s.Cure)
	}
}

// WriteJSON writes the report for programs.
func (r *Report) WriteJSON(w io.Writer) error {
	e := json.NewEncoder(w)
	e.SetIndent("", "  ")
	e.SetEscapeHTML(false)
	return e.Encode(struct {
		OK bool `json:"ok"`
		*Report
	}{r.OK(), r})
}
