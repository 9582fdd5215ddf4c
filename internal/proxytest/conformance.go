package proxytest

import (
	"flag"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
)

// The document has a table with one row for each story and one column for each
// proxy. Each proxy's tests compare their own column with what they found.
const document = "../docs/conformance.md"

var columns = []string{"nginx", "Traefik", "Caddy", "HAProxy", "Envoy"}

// rows are the stories, in the order of the document.
func rows() (names []string) {
	for _, s := range stories {
		names = append(names, s.name)
	}
	return append(names, preflights, signIn, overHTTP2, grpc, questions, slow, kept, rolling, event)
}

// notPlayed is the cell of a story that a proxy's tests do not play.
const notPlayed = "–"

var (
	mu    sync.Mutex
	found = map[string]string{} // in this process :: story → cell
)

// Found says what a proxy did in a story, unless the test has failed. Wherever a
// story is played it must be the same.
func Found(t testing.TB, story, cell string) {
	t.Helper()
	if t.Failed() {
		return
	}
	mu.Lock()
	defer mu.Unlock()
	if was, ok := found[story]; ok && was != cell {
		t.Errorf("%s: %s here, %s elsewhere", story, cell, was)
	}
	if !slices.Contains(rows(), story) {
		t.Fatalf("there is no story %q", story)
	}
	found[story] = cell
}

// Main runs the tests of a proxy and compares what they found with the proxy's
// column in docs/conformance.md; with -update it writes the column, headed by the
// version.
func Main(m *testing.M, proxy, version string) {
	update := flag.Bool("update", false, "write the proxy's column in docs/conformance.md anew")
	flag.Parse()
	code := m.Run()
	if code == 0 {
		if err := compare(proxy, strings.TrimSpace(proxy+" "+version), *update); err != nil {
			fmt.Fprintln(os.Stderr, err)
			code = 1
		}
	}
	os.Exit(code)
}

func compare(proxy, head string, update bool) error {
	text, err := os.ReadFile(document)
	if err != nil {
		return err
	}
	have, err := readTable(string(text))
	if err != nil {
		return fmt.Errorf("%s: %w", document, err)
	}
	all := flag.Lookup("test.run").Value.String() == "" && flag.Lookup("test.skip").Value.String() == ""
	want := have.with(slices.Index(columns, proxy), head, found, all)
	if update {
		return os.WriteFile(document, []byte(have.before+want.String()+have.after), 0o644)
	}
	// Another version that does the same is no difference.
	want.head = have.head
	if want.String() != have.String() {
		return fmt.Errorf("docs/conformance.md says otherwise of %s. If what was found is right, run `go test ./%s -update` and look at the difference", proxy, strings.ToLower(proxy))
	}
	return nil
}

// A table is that of the document, and what stands around it.
type table struct {
	before, after string
	head          []string            // what the columns are called
	cells         map[string][]string // story → its cell in each column
}

const (
	above = "<!-- made by: go test ./nginx ./traefik ./caddy ./haproxy ./envoy -p=1 -update -->\n\n"
	below = "\n<!-- end of what is made -->\n"
)

func readTable(text string) (tb table, err error) {
	before, rest, ok := strings.Cut(text, above)
	body, after, ok2 := strings.Cut(rest, below)
	if !ok || !ok2 {
		return tb, fmt.Errorf("it lacks one of the lines %s%s", above, below)
	}
	tb = table{before: before + above, after: below + after, head: slices.Clone(columns), cells: map[string][]string{}}
	for i, line := range strings.Split(strings.TrimSpace(body), "\n") {
		cells := strings.Split(strings.Trim(line, "| "), " | ")
		switch {
		case i == 0 && len(cells) == len(columns):
			tb.head = cells
		case i > 1 && len(cells) == len(columns)+1:
			tb.cells[cells[0]] = cells[1:]
		}
	}
	return tb, nil
}

// with returns the table with a column of what was found :: story → cell. If all
// was played, what was not found was not played.
func (tb table) with(column int, head string, found map[string]string, all bool) table {
	tb.head = slices.Clone(tb.head)
	tb.head[column] = head
	tb.cells = maps.Clone(tb.cells)
	for _, story := range rows() {
		cells := slices.Clone(tb.cells[story])
		if len(cells) == 0 {
			cells = slices.Repeat([]string{notPlayed}, len(columns))
		}
		if cell, ok := found[story]; ok {
			cells[column] = cell
		} else if all {
			cells[column] = notPlayed
		}
		tb.cells[story] = cells
	}
	return tb
}

func (tb table) String() string {
	var b strings.Builder
	b.WriteString("| | " + strings.Join(tb.head, " | ") + " |\n|---|" + strings.Repeat("---|", len(columns)) + "\n")
	for _, story := range rows() {
		fmt.Fprintf(&b, "| %s | %s |\n", story, strings.Join(tb.cells[story], " | "))
	}
	return b.String()
}

// What is found in stories in which proxies differ. The story has asserted it.

func (st *Stand) encodedSlash() string {
	return either(st.RefusesEncodedSlash, "ok; 400 to `%2f` and `\\`", "ok")
}

func (st *Stand) unknown() string { return either(st.PassesUnknown, "passes (1)", "removed") }

func (st *Stand) trailers() string {
	return either(st.PassesTrailers, "passes, as a trailer (2)", "removed")
}

func (st *Stand) paths() string {
	return either(st.CleansPaths, "ok, as the proxy reads them (3)", "ok")
}

func (st *Stand) away() string {
	return either(st.Away == 503, "503", fmt.Sprintf("%d (4)", st.Away))
}

func either(fact bool, yes, no string) string {
	if fact {
		return yes
	}
	return no
}
