package resolver

import "errors"

// A Trace tells how an answer was found. Each request has its own.
type Trace struct {
	// Lookup is what was remembered of the credentials that were tried last.
	Lookup Lookup

	// Steps are the checks that were made, if Explain says that somebody wants to
	// know. What is remembered is not checked again.
	Steps   []Step
	Explain bool
}

// A Lookup is what was remembered of credentials.
type Lookup uint8

const (
	NoLookup Lookup = iota // nobody looked
	Hit                    // a session, fresh enough
	Negative               // that they are worthless
	Refresh                // a session that had to be confirmed first
	Miss                   // nothing
)

// Lookups are all of them but NoLookup.
var Lookups = []Lookup{Hit, Negative, Refresh, Miss}

func (l Lookup) String() string {
	return [...]string{"", "hit", "negative", "refresh", "miss"}[l]
}

// A Step is one check of an explanation.
type Step struct {
	Name   string `json:"step"`
	Result Result `json:"result"`
	Reason Reason `json:"reason,omitempty"` // of a failed one
	Detail string `json:"detail"`           // what was found; never a credential
}

// A Result is how a Step went.
type Result string

const (
	Passed Result = "pass"
	Failed Result = "fail"
	Noted  Result = "note" // nothing depends on it
)

// Looked notes what was remembered.
func (t *Trace) Looked(l Lookup) {
	if t != nil {
		t.Lookup = l
	}
}

// Explains tells whether steps are to be noted.
func (t *Trace) Explains() bool { return t != nil && t.Explain }

// Note adds a step: failed with err, passed without. found is what was found there.
func (t *Trace) Note(name string, err error, found string) {
	step := Step{Name: name, Result: Passed, Detail: found}
	if err != nil {
		step.Result, step.Reason, step.Detail = Failed, ReasonOf(err), found+detail(err)
	}
	t.Steps = append(t.Steps, step)
}

// Remark adds a step on which nothing depends.
func (t *Trace) Remark(name, found string) {
	t.Steps = append(t.Steps, Step{Name: name, Result: Noted, Detail: found})
}

// detail is what an error says beside its reason, to be put behind what was found.
func detail(err error) string {
	text := err.Error()
	if out, ok := errors.AsType[*UnavailableError](err); ok {
		text = out.Err.Error()
	}
	if invalid, ok := errors.AsType[*InvalidError](err); ok && invalid.Detail != "" {
		text = invalid.Detail
	}
	return ": " + text
}

// ReasonOf returns the reason of an error of a [Resolver].
func ReasonOf(err error) Reason {
	if invalid, ok := errors.AsType[*InvalidError](err); ok {
		return invalid.Reason
	}
	if out, ok := errors.AsType[*UnavailableError](err); ok {
		return out.Reason
	}
	return ResolverUnavailable
}
