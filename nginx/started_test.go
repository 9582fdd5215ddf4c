package nginx_test

import (
	"maps"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"authgear-forward-auth/internal/authgeartest"
	"authgear-forward-auth/internal/proxytest"
)

// The page for beginners shows what nginx answers, and what the application is handed.
func TestGettingStartedShowsWhatComes(t *testing.T) {
	page, err := os.ReadFile("../docs/getting-started.md")
	if err != nil {
		t.Fatal(err)
	}
	shown := regexp.MustCompile("(?m)^    curl -i http://127.0.0.1:8080/.*\n\n```\n((?s:.*?))```").FindAllSubmatch(page, -1)
	if len(shown) != 2 {
		t.Fatalf("the page shows %d answers, want a 401 and a 200", len(shown))
	}
	st := newStand(t, proxytest.FreeAddr(t))

	head, body, _ := strings.Cut(strings.TrimSpace(string(shown[0][1])), "\n\n")
	lines := strings.Split(head, "\n")
	resp, told := st.Raw(t, "/")
	if want := "HTTP/1.1 " + strconv.Itoa(resp.StatusCode) + " Unauthorized"; lines[0] != want || told != body {
		t.Errorf("the page shows %q with the body %s, and it is %q with %s", lines[0], body, want, told)
	}
	for _, line := range lines[1:] {
		name, value, _ := strings.Cut(line, ": ")
		if got := resp.Header.Get(name); got != value {
			t.Errorf("the page shows %s, and it is %q", line, got)
		}
	}

	var want []string
	for _, m := range regexp.MustCompile(`(?m)^(X-Authgear-[\w-]+): .`).FindAllSubmatch(shown[1][1], -1) {
		want = append(want, string(m[1]))
	}
	_, seen := st.Expect(t, 200, "GET", "/", st.User(authgeartest.User{ID: "bob"})...)
	var got []string
	for name := range maps.Keys(seen.Header) {
		if strings.HasPrefix(name, "X-Authgear-") {
			got = append(got, name)
		}
	}
	slices.Sort(got)
	if !slices.Equal(got, want) {
		t.Errorf("the application is handed %q, and the page shows %q", got, want)
	}
}
