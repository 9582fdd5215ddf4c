package proxytest

import (
	"strings"
	"testing"
)

func TestAProxyWritesItsOwnColumn(t *testing.T) {
	tb, err := readTable("before\n" + above + below + "behind\n")
	if err != nil {
		t.Fatal(err)
	}
	first, second := stories[0].name, stories[1].name
	tb = tb.with(0, "nginx 1.22", map[string]string{first: "ok", second: "500"}, true)
	tb = tb.with(1, "Traefik 3.7", map[string]string{first: "ok"}, true)
	tb, err = readTable(tb.before + tb.String() + tb.after)
	if err != nil {
		t.Fatal(err)
	}
	tb = tb.with(0, "nginx 1.23", map[string]string{first: "503"}, false) // some stories alone

	text := tb.before + tb.String() + tb.after
	for _, want := range []string{
		"| | nginx 1.23 | Traefik 3.7 | Caddy | HAProxy | Envoy |\n|---|---|---|---|---|---|\n",
		"| " + first + " | 503 | ok | – | – | – |\n| " + second + " | 500 | – | – | – | – |\n",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("there is no\n%sin\n%s", want, text)
		}
	}
	if !strings.HasPrefix(text, "before\n") || !strings.HasSuffix(text, "behind\n") {
		t.Errorf("what stands around the table has changed:\n%s", text)
	}
	if _, err := readTable("no table"); err == nil {
		t.Error("a document without a table: no error")
	}
}
