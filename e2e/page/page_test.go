package page_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/chromedp"

	"authgear-forward-auth/internal/authgeartest"
)

// quiet ends the test if the page had something to complain of, or asked elsewhere.
func (b *tab) quiet(origin string) {
	b.t.Helper()
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, p := range b.problems {
		b.t.Errorf("the console tells: %s", p)
	}
	for _, url := range b.asked {
		if !strings.HasPrefix(url, origin) && !strings.HasPrefix(url, "data:") {
			b.t.Errorf("the page asked %s", url)
		}
	}
}

func TestThePageTellsWhatTheServiceDoes(t *testing.T) {
	s := start(t)
	ada := s.authgear.AddUser(authgeartest.User{ID: "ada"})
	if status := s.ask("", "https://app.example.com/orders/17?secret=1", s.expired(ada)); status != 401 {
		t.Fatalf("status %d", status)
	}
	b := open(t, s.page, 1240, 900)
	b.until("#state", "Ready")
	b.until("#about", s.authgear.Origin())
	b.until("#denied", "expired")
	b.until("#denied", "app.example.com/orders/17")
	if strings.Contains(b.text("#denied"), "secret") {
		t.Error("the page shows the query of a request")
	}
	b.until("#parts", "asked as needed")

	token := s.authgear.JWT(ada)
	for end := time.Now().Add(30 * time.Second); !strings.Contains(b.text("#decided"), "allow"); {
		if s.ask("", "https://app.example.com/", token) != 200 || time.Now().After(end) {
			t.Fatalf("the table of decisions shows %q", b.text("#decided"))
		}
	}
	line := `document.querySelector("#chart-decisions path.line").getAttribute("d").length`
	before := eval[int](b, line)
	for end := time.Now().Add(30 * time.Second); eval[int](b, line) <= before; time.Sleep(50 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("the chart does not move")
		}
	}
	b.quiet(s.page)
}

func TestExplainingByKeyboardAlone(t *testing.T) {
	s := start(t)
	token := s.expired(s.authgear.AddUser(authgeartest.User{ID: "ada"}))
	b := open(t, s.page, 1240, 900)
	b.until("#state", "Ready")
	for range 30 {
		if eval[string](b, "document.activeElement.id") == "credentials" {
			break
		}
		b.press("\t")
	}
	b.do(chromedp.KeyEvent(token))
	b.press("\t", "\t", "\r") // over the policy, to the button
	b.until("#verdict", "expired")
	b.until("#steps", "times")
	if n := eval[int](b, "document.querySelectorAll('#steps .fail').length"); n != 1 {
		t.Errorf("%d failed steps, want 1", n)
	}
	b.press("\t", "\r") // Clear
	b.until("#verdict", "")
	where := `JSON.stringify([document.documentElement.outerHTML, document.querySelector("#credentials").value, location.href, document.title, Object.entries(localStorage), Object.entries(sessionStorage), document.cookie])`
	for end := time.Now().Add(10 * time.Second); strings.Contains(eval[string](b, where), token[len(token)-40:]); time.Sleep(50 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("the token is still in the page")
		}
	}
	for _, url := range b.asked {
		if strings.Contains(url, token[len(token)-40:]) {
			t.Error("the token stands in an address")
		}
	}
	b.quiet(s.page)
}

func TestAStrangersTextStaysText(t *testing.T) {
	s := start(t)
	markup := "<img src=x onerror=document.title='owned'>"
	s.ask("", "https://app.example.com/"+strings.ReplaceAll(markup, " ", "%20")+markup, "")
	s.ask("role="+strings.ReplaceAll(markup, " ", ""), "https://app.example.com/", "")
	b := open(t, s.page, 1240, 900)
	b.until("#denied", "<img src=x")
	if n := eval[int](b, "document.images.length"); n != 0 || strings.Contains(eval[string](b, "document.title"), "owned") {
		t.Errorf("%d images, title %q", n, eval[string](b, "document.title"))
	}
	b.quiet(s.page)
}

func TestThePageInTheDarkAndOnAPhone(t *testing.T) {
	s := start(t)
	s.ask("", "https://app.example.com/"+strings.Repeat("a-long-path/", 20), "")
	b := open(t, s.page, 360, 740)
	b.until("#denied", "no_credential")
	if wide := eval[int](b, "document.documentElement.scrollWidth"); wide > 360 {
		t.Errorf("on 360 pixels the page is %d wide", wide)
	}
	colours := map[string]string{}
	for _, scheme := range []string{"light", "dark"} {
		b.prefer("prefers-color-scheme: " + scheme)
		colours[scheme] = eval[string](b, "getComputedStyle(document.documentElement).backgroundColor")
		for _, name := range []string{"text", "quiet", "good", "warn", "odd", "bad", "wrong"} {
			for _, ground := range []string{"ground", "raised"} {
				if c := eval[float64](b, fmt.Sprintf(contrast, name, ground)); c < 4.5 {
					t.Errorf("%s: the contrast of --%s on --%s is %.2f, want 4.5", scheme, name, ground, c)
				}
			}
		}
	}
	if colours["light"] == colours["dark"] {
		t.Errorf("it is as light in the dark: %s", colours["dark"])
	}
	b.quiet(s.page)
}

// contrast is that of two of the page's colours. WCAG 2.2, contrast ratio.
const contrast = `(() => {
	const light = name => {
		const hex = getComputedStyle(document.documentElement).getPropertyValue('--' + name).trim();
		const [r, g, b] = [1, 3, 5].map(i => parseInt(hex.slice(i, i + 2), 16) / 255).map(c => c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4);
		return 0.2126 * r + 0.7152 * g + 0.0722 * b;
	};
	const [a, b] = [light(%q), light(%q)];
	return (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
})()`

func TestAPausedPageAsksNothing(t *testing.T) {
	s := start(t)
	b := open(t, s.page, 1240, 900)
	b.until("#state", "Ready")
	b.do(chromedp.Click(chromedp.CSS("#pause")))
	time.Sleep(500 * time.Millisecond) // for what was under way
	before := b.requests("/status")
	time.Sleep(5 * time.Second) // it asks each 2 s
	if n := b.requests("/status"); n != before {
		t.Errorf("it asked %d times", n-before)
	}
}

// A page of a stranger, in a browser that reaches the listener, learns nothing.
func TestAStrangersPageLearnsNothing(t *testing.T) {
	s := start(t)
	_, port, _ := strings.Cut(strings.TrimPrefix(s.page, "http://"), ":")
	b := open(t, "http://"+stranger+":"+port, 800, 600) // whose name leads here
	for path, method := range map[string]string{"/status": "GET", "/explain": "POST"} {
		got := eval[string](b, fmt.Sprintf(`fetch("http://%s:%s%s", {method: %q}).then(async r => r.status + " " + await r.text())`, stranger, port, path, method))
		if !strings.HasPrefix(got, "403") {
			t.Errorf("%s by the stranger's own name: %.80s", path, got)
		}
	}
	resp, err := http.Get(s.page + "status")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	var status struct{ Endpoint string }
	if err := json.NewDecoder(resp.Body).Decode(&status); err != nil || status.Endpoint != s.authgear.Origin() {
		t.Errorf("without a browser: %v %+v", err, status)
	}
}
