package matrix

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
)

// A place is where a cell stands.
type place struct{ part, fault, credential, mode string }

type table struct {
	mu    sync.Mutex
	cells map[place]string
}

func (tb *table) set(p place, outcome string) {
	tb.mu.Lock()
	defer tb.mu.Unlock()
	tb.cells[p] = outcome
}

const (
	above = "<!-- made by: go test ./internal/matrix -update -->\n"
	below = "<!-- end of what is made -->\n"
)

// compare looks whether the document has the table, or puts it there.
func (tb *table) compare(t *testing.T, file string) {
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	head, rest, ok := strings.Cut(string(text), above)
	have, tail, ok2 := strings.Cut(rest, below)
	if !ok || !ok2 {
		t.Fatalf("%s lacks one of the lines %s%s", file, above, below)
	}
	want := tb.render()
	switch {
	case have == want:
	case *update:
		if err := os.WriteFile(file, []byte(head+above+want+below+tail), 0o644); err != nil {
			t.Fatal(err)
		}
	default:
		t.Errorf("%s says otherwise. If the new outcomes are right: go test ./internal/matrix -update\n%s", file, difference(have, want))
	}
}

// difference is the lines of one that the other has not.
func difference(have, want string) string {
	var b strings.Builder
	only := func(sign, these, those string) {
		for line := range strings.Lines(these) {
			if !strings.Contains("\n"+those, "\n"+line) {
				b.WriteString(sign + line)
			}
		}
	}
	only("documented: ", have, want)
	only("found:      ", want, have)
	return b.String()
}

// render makes one table for all faults of a part that have the same outcomes.
func (tb *table) render() string {
	var b strings.Builder
	for _, p := range parts {
		var bodies, names []string
		for _, f := range p.faults {
			body := tb.body(p, f)
			bodies, names = merge(bodies, names, body, f.name)
		}
		for i, body := range bodies {
			fmt.Fprintf(&b, "\n### %s: %s\n\n%s", p.title, names[i], body)
		}
	}
	return b.String() + "\n"
}

// body has one row for all credentials with the same outcomes.
func (tb *table) body(p part, f fault) string {
	var rows, names []string
	for _, c := range p.credentials {
		row := ""
		for _, m := range modes {
			row += " " + tb.cells[place{p.name, f.name, c.name, m.name}] + " |"
		}
		rows, names = merge(rows, names, row, c.name)
	}
	var b strings.Builder
	b.WriteString("| |")
	for _, m := range modes {
		b.WriteString(" " + m.name + " |")
	}
	b.WriteString("\n|---|" + strings.Repeat("---|", len(modes)) + "\n")
	for i, row := range rows {
		b.WriteString("| " + names[i] + " |" + row + "\n")
	}
	return b.String()
}

// merge puts the name to the text that is there already, or both behind the rest.
func merge(texts, names []string, text, name string) (_, _ []string) {
	if i := slices.Index(texts, text); i >= 0 {
		names[i] += "; " + name
		return texts, names
	}
	return append(texts, text), append(names, name)
}
