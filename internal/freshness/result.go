package main

import (
	"fmt"
	"io"
	"time"

	"authgear-forward-auth/internal/lab"
)

// A result is what was measured in one scenario.
type result struct {
	*scenario
	size

	last        []time.Duration // of each revocation, to the last 200
	lastEnd     time.Duration   // the longest, to the end of the answer
	onSignature int             // 200s, and the longest time that one token had them
	longestSign time.Duration

	wrong, unavailable, nothing int
	afterTold, unproven         int

	questions float64 // to the resolver, for each bystander and period
	tooMany   bool    // for one of them

	faults string // of Redis
}

func (r *result) add(o outcome) {
	r.last = append(r.last, o.last)
	r.lastEnd = max(r.lastEnd, o.lastEnd)
	r.onSignature += o.onSignature
	r.longestSign = max(r.longestSign, o.onSignatureFor)
	r.wrong += o.wrong
	r.unavailable += o.unavailable
	r.nothing += o.nothing
	r.afterTold += o.afterTold
	if o.unproven {
		r.unproven++
	}
}

// problems tells what breaks the promise. How soon an event works depends on the
// machine, and is told apart.
func (r *result) problems() (list []string) {
	problem := func(format string, args ...any) {
		list = append(list, r.name+": "+fmt.Sprintf(format, args...))
	}
	if longest := lab.Percentile(r.last, 100); longest > r.bound {
		problem("a 200 came %s after the revocation, and the bound is %s", longest, r.bound)
	}
	if r.onSignature > 0 && !r.scenario.onSignature {
		problem("%d JWTs were believed although the service waits for Authgear", r.onSignature)
	}
	if most := 2 * r.timeout(); r.longestSign > most {
		problem("a JWT was believed for %s, and questions to Authgear take %s at most", r.longestSign, most)
	}
	if r.tells && r.afterTold > 0 {
		problem("%d requests passed although the service had been told", r.afterTold)
	}
	if r.wrong > 0 {
		problem("%d wrong answers", r.wrong)
	}
	if r.unproven > 0 {
		problem("%d sessions were never accepted before the revocation, or never denied after it", r.unproven)
	}
	if r.isFleet && r.unavailable+r.nothing > 0 {
		problem("%d requests were answered 503, %d not at all, and Authgear was there", r.unavailable, r.nothing)
	}
	if r.during == nil && r.tooMany {
		problem("a session was asked about more than once in a period of %s", r.period())
	}
	return list
}

func (r *result) tooLate() (list []string) {
	if late := lab.Percentile(r.last, 99); r.soon > 0 && late > r.soon {
		list = append(list, fmt.Sprintf("%s: p99 is %s, not %s", r.name, late, r.soon))
	}
	return list
}

func printTable(w io.Writer, results []*result) {
	fmt.Fprintln(w, "| Scenario | Revocations | p50 | p99 | max | max to the answer's end | Bound | Resolver calls per session and period | Wrong answers | 503 | No answer |")
	fmt.Fprintln(w, "|---|---|---|---|---|---|---|---|---|---|---|")
	for _, r := range results {
		fmt.Fprintf(w, "| %s | %d | %s | %s | %s | %s | %s | %.2f | %d | %d | %d |\n", r.name, len(r.last),
			ms(lab.Percentile(r.last, 50)), ms(lab.Percentile(r.last, 99)), ms(lab.Percentile(r.last, 100)), ms(r.lastEnd), ms(r.bound),
			r.questions, r.wrong, r.unavailable, r.nothing)
	}
	for _, r := range results {
		if r.faults != "" {
			fmt.Fprintf(w, "\n%s: %s\n", r.name, r.faults)
		}
		if r.scenario.onSignature {
			fmt.Fprintf(w, "\n%s: apart from these, %d requests with JWTs that had been revoked were answered 200 on the signature, "+
				"the last one %s after the new process first saw its token.\n", r.name, r.onSignature, ms(r.longestSign))
		}
	}
}

func ms(d time.Duration) string {
	return fmt.Sprintf("%.1f ms", float64(d)/float64(time.Millisecond))
}
