//go:build linux

package main

import (
	"io"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"authgear-forward-auth/internal/authgeartest"
	"authgear-forward-auth/internal/lab"
	"authgear-forward-auth/resolver"
)

// TestMain lets the test's program help itself, as the program does.
func TestMain(m *testing.M) {
	if help := helper(os.Args[1:]); help != nil {
		exitOn(help())
		return
	}
	os.Exit(m.Run())
}

// A short form of what the program does. How fast anything was is not looked at.
func TestEveryRowIsMeasured(t *testing.T) {
	t.Chdir(filepath.Join("..", ".."))
	var table strings.Builder
	z := size{short: turns{1, window}, long: turns{1, window}, few: 50, many: 100, unseen: 20}
	if err := run(t.Context(), z, func(b *bench) error { return b.table("", "", &table, io.Discard) }); err != nil {
		t.Fatal(err)
	}
	for _, r := range []string{"| idle |", "| start, Authgear away |", "JWT, one |", "opaque token, 50 |", "session cookie, 100 |", "| memory, 100 sessions",
		"allocations per request", "role policy", "1 → 100 policies", "unseen JWT", "half load", "confirmations", "20,000 bad tokens", "unix socket", "TCP"} {
		if !strings.Contains(table.String(), r) {
			t.Errorf("the table has no %q", r)
		}
	}
	t.Log("\n" + table.String())
}

// A hundred samples a second are of whoever had the core, which may have been another test's
// program: what a profile lacks, one of twice the length has.
func TestAProfileIsOneForTheCompiler(t *testing.T) {
	t.Chdir(filepath.Join("..", ".."))
	for length := time.Duration(5); ; length *= 2 {
		z := size{long: turns{1, length * window}, few: 50, unseen: 100}
		file := filepath.Join(t.TempDir(), "default.pgo")
		if err := run(t.Context(), z, func(b *bench) error { return b.profile(file) }); err != nil {
			t.Fatal(err)
		}
		if out, err := exec.Command("go", "tool", "preprofile", "-i", file, "-o", file+".txt").CombinedOutput(); err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
		said, err := os.ReadFile(file + ".txt")
		if err != nil {
			t.Fatal(err)
		}
		lacks := slices.DeleteFunc([]string{"forwardauth.(*Gate).decide", "cache.(*Cache).Resolve", "bigmod.(*Nat).montgomeryMul"},
			func(function string) bool { return strings.Contains(string(said), function) })
		if len(lacks) == 0 {
			return
		}
		if length > 40 {
			t.Fatalf("no word of %v in what the compiler reads", lacks)
		}
	}
}

// listening starts one of the helpers and returns its address.
func listening(t *testing.T, name string, args ...string) string {
	t.Helper()
	addr, err := lab.FreeAddr()
	if err != nil {
		t.Fatal(err)
	}
	p, err := start(t.TempDir(), serverCore, nil, os.Args[0], append([]string{name, addr}, args...)...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.kill)
	if err := p.awaitListener(addr); err != nil {
		t.Fatal(err)
	}
	return addr
}

func TestTheFloorsAnswerAsTheServiceDoes(t *testing.T) {
	for name, addr := range map[string]string{"bare": listening(t, "bare"), "lookup": listening(t, "lookup", "10")} {
		for range 2 { // a credential that is new, and one that is remembered
			resp, err := http.Get("http://" + addr + "/nginx")
			if err != nil {
				t.Fatal(err)
			}
			resp.Body.Close()
			for _, field := range answer {
				if resp.StatusCode != 200 || len(resp.Header.Values(field[0])) != 1 || field[0] != answer[idField][0] && resp.Header.Get(field[0]) != field[1] {
					t.Errorf("%s: status %d, %s: %q", name, resp.StatusCode, field[0], resp.Header.Values(field[0]))
				}
			}
		}
	}
}

func TestItsAuthgearKnowsEachCredential(t *testing.T) {
	tokens, jwks := sign("http://localhost:3000", 1)
	keys := filepath.Join(t.TempDir(), "jwks.json")
	if err := os.WriteFile(keys, jwks, 0o644); err != nil {
		t.Fatal(err)
	}
	authgear := &url.URL{Scheme: "http", Host: listening(t, "authgear", keys), Path: "/_resolver/resolve"}
	remote := resolver.NewRemote(resolver.RemoteOptions{Endpoint: authgear, URL: authgear, Timeout: time.Minute})
	for _, k := range []kind{jwts(tokens), opaque, cookie} {
		name, value, _ := strings.Cut(k.field(0), ": ")
		lines := map[string][][]byte{name: {[]byte(value)}}
		creds := resolver.NewReader("", nil).Read(nil, lines["Authorization"], lines["Cookie"])
		s, err := remote.Resolve(t.Context(), creds)
		if err != nil || s.UserID != userID(0) || s.Roles != roleNames {
			t.Errorf("%s: %+v, %v", k.name, s, err)
		}
	}
	for i := range 3 {
		_, token, _ := strings.Cut(string(badTokens(tokens[0], 3).get(i)), "Bearer ")
		creds := resolver.Credentials{List: []resolver.Credential{{Slot: resolver.Bearer, Value: strings.TrimSpace(token)}}}
		if i == 0 {
			if s, err := remote.Resolve(t.Context(), creds); err == nil {
				t.Errorf("a bad token is known: %+v", s)
			}
		} else if !creds.List[0].IsJWT() || creds.List[0].Value == tokens[0] {
			t.Errorf("the bad token %d is no bad JWT", i)
		}
	}
}

func TestTheLoadSendsEachRequestOnce(t *testing.T) {
	var mu sync.Mutex
	seen := map[string]int{}
	fake := authgeartest.Start(t, authgeartest.Options{})
	fake.Fail("resolver", func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		defer mu.Unlock()
		seen[r.Header.Get("Authorization")]++
		if len(seen)%2 == 0 {
			http.Error(w, "no", http.StatusUnauthorized)
		}
	})
	r := questions(opaque, "/resolve", 100)
	out, err := drive(server{addr: strings.TrimPrefix(fake.URL(), "http://")}, hour, stream{requests: r, conns: 1, once: true})
	if err != nil {
		t.Fatal(err)
	}
	mu.Lock()
	defer mu.Unlock()
	if o := &out[0]; len(seen) != 100 || o.answers != 100 || o.not200 != 50 || times(o) != 100 {
		t.Errorf("%d were seen; %d answers, %d of them not 200, %d times", len(seen), o.answers, o.not200, times(o))
	}
}

// That the machine stands still for a moment is no latency of the server.
func TestAPercentileIsThatOfMostWindows(t *testing.T) {
	var o outcome
	for i := range 100 {
		took := time.Millisecond
		if i/10 == 3 {
			took = time.Second
		}
		o.add(time.Duration(i)*window/10, took)
	}
	if p := o.percentile(99); p > 2*time.Millisecond {
		t.Errorf("p99 %v", p)
	}
	if p := new(outcome).percentile(99); p != 0 {
		t.Errorf("p99 of nothing: %v", p)
	}
}

func times(o *outcome) (n int64) {
	for _, h := range o.latency {
		n += h.n
	}
	return n
}

func TestAnAnswerIsWholeWithItsBody(t *testing.T) {
	const answer = "HTTP/1.1 401 Unauthorized\r\nContent-Length: 2\r\nDate: x\r\n\r\nno"
	for n := range len(answer) + 1 {
		if whole, err := isWhole([]byte(answer[:n])); err != nil || whole != (n == len(answer)) {
			t.Errorf("%q: %v, %v", answer[:n], whole, err)
		}
	}
	if _, err := isWhole([]byte("HTTP/1.1 200 OK\r\n\r\n")); err == nil {
		t.Error("an answer without a length is taken")
	}
}

func TestPercentile(t *testing.T) {
	var h histogram
	for i := range 1000 {
		h.add(time.Duration(i+1) * time.Millisecond)
	}
	for _, of := range []float64{0, 1, 50, 99, 99.9} {
		want := of/100*1000 + 1
		if got := float64(h.percentile(of)) / 1e6; got > want || got < want*0.98 {
			t.Errorf("percentile %v: %v ms, want %v", of, got, want)
		}
	}
}

func TestARatioIsTheMedianOfTheRounds(t *testing.T) {
	of := []sample{{cost: 10}, {cost: 30}, {cost: 1000}}
	to := []sample{{cost: 10}, {cost: 10}, {cost: 10}}
	if got, want := ratio(of, to, cost), (spread{3, 1, 100}); got != want {
		t.Errorf("ratio = %+v, want %+v", got, want)
	}
	if got := spreadOf([]float64{4, 1, 2, 3}).median; got != 2.5 {
		t.Errorf("the median of four is %v, want 2.5", got)
	}
}

func TestAVerdict(t *testing.T) {
	for _, tt := range []struct {
		l    line
		want string
	}{
		{line{ratio: &spread{median: 0.95}, target: atLeast(0.93)}, "met"},
		{line{ratio: &spread{median: 0.92}, target: atLeast(0.93)}, "missed"},
		{line{value: 12, target: atMost(25, "MB")}, "met"},
		{line{value: 1, target: atMost(0, "per request")}, "missed"},
		{line{value: 1}, ""},
	} {
		if got := tt.l.verdict(); got != tt.want {
			t.Errorf("%+v %s: %q, want %q", tt.l, tt.l.target, got, tt.want)
		}
	}
}
