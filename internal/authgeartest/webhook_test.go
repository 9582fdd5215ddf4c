package authgeartest

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"slices"
	"strings"
	"testing"
	"time"
)

// delivered is what arrived.
type delivered struct {
	header http.Header
	body   string
}

// listen returns where deliveries go, and the deliveries.
func listen(t *testing.T) (url string, deliveries chan delivered) {
	deliveries = make(chan delivered, 10)
	s := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		deliveries <- delivered{r.Header, string(body)}
	}))
	t.Cleanup(s.Close)
	return s.URL, deliveries
}

func next(t *testing.T, deliveries chan delivered) delivered {
	t.Helper()
	select {
	case d := <-deliveries:
		return d
	case <-time.After(10 * time.Second):
		t.Fatal("no delivery")
	}
	return delivered{}
}

// shape lists the members of a JSON value with their kinds. What a person is
// called, and why or since when, differs by person.
func shape(t *testing.T, body string) (list []string) {
	t.Helper()
	var v any
	if err := json.Unmarshal([]byte(body), &v); err != nil {
		t.Fatal(err)
	}
	var walk func(path string, v any)
	walk = func(path string, v any) {
		m, ok := v.(map[string]any)
		if !ok {
			list = append(list, fmt.Sprintf("%s %T", path, v))
			return
		}
		list = append(list, path)
		for name := range maps.Keys(m) {
			switch name {
			case "name", "preferred_username", "disable_reason", "last_login_at":
			default:
				walk(path+"."+name, m[name])
			}
		}
	}
	walk("", v)
	slices.Sort(list)
	return list
}

func TestAnEventIsDeliveredAsTheRecordedOnes(t *testing.T) {
	var recorded struct {
		Deliveries []struct{ Type, Body string }
	}
	text, err := os.ReadFile("../webhook/testdata/recorded.json")
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(text, &recorded); err != nil {
		t.Fatal(err)
	}
	url, deliveries := listen(t)
	s := New(Options{})
	s.Webhook(url, "a secret of 16 or more")
	ada := s.AddUser(User{ID: "ada"})
	for kind, act := range map[string]func(){
		"user.disabled":        func() { s.Disable(ada) },
		"user.reenabled":       func() { s.Reenable(ada) },
		"user.profile.updated": func() { s.UpdateProfile(ada, func(u *User) { u.Verified = true }) },
	} {
		act()
		d := next(t, deliveries)
		mac := hmac.New(sha256.New, []byte("a secret of 16 or more"))
		io.WriteString(mac, d.body)
		expect(t, kind+": signature", d.header.Get("X-Authgear-Body-Signature"), hex.EncodeToString(mac.Sum(nil)))
		expect(t, kind+": content type", d.header.Get("Content-Type"), "application/json")
		i := slices.IndexFunc(recorded.Deliveries, func(r struct{ Type, Body string }) bool { return r.Type == kind })
		expect(t, kind+": shape", strings.Join(shape(t, d.body), "\n"), strings.Join(shape(t, recorded.Deliveries[i].Body), "\n"))
		if !strings.Contains(d.body, `"type":"`+kind+`"`) || !strings.Contains(d.body, `"user_id":"ada"`) {
			t.Errorf("%s: %s", kind, d.body)
		}
	}
}

func TestAnEventComesAfterTheChangeAndTellsIt(t *testing.T) {
	url, deliveries := listen(t)
	s := Start(t, Options{})
	s.Webhook(url, "a secret of 16 or more")
	ada := s.AddUser(User{ID: "ada"})
	token := s.OpaqueToken(ada)
	s.Disable(ada)
	first := next(t, deliveries)
	expect(t, "when the event is there", bearer(t, s, token), "absent")
	var e event
	if err := json.Unmarshal([]byte(first.body), &e); err != nil || !e.Payload.User.IsDisabled {
		t.Errorf("%v: %s", err, first.body)
	}
	s.Reenable(ada)
	if second := next(t, deliveries); second.body == first.body || !strings.Contains(second.body, `"is_disabled":false`) {
		t.Errorf("%s", second.body)
	}
	expect(t, "the token of before", bearer(t, s, token), "absent")
}

func TestTheEndOfASessionIsNoEvent(t *testing.T) {
	url, deliveries := listen(t)
	s := New(Options{})
	s.Webhook(url, "a secret of 16 or more")
	ada := s.AddUser(User{ID: "ada"})
	s.Revoke(s.OpaqueToken(ada))
	s.RevokeUser(ada)
	s.Edit(ada, func(u *User) { u.Roles = []string{"admin"} })
	s.UpdateProfile(ada, func(*User) {})
	if d := next(t, deliveries); !strings.Contains(d.body, "user.profile.updated") || !strings.Contains(d.body, `"seq":2,`) {
		t.Errorf("something else was sent before: %s", d.body)
	}
	s.Webhook("", "")
	s.Disable(ada)
	if s.hook.seq != 2 {
		t.Error("an event without anywhere to go")
	}
}
