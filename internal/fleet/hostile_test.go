package fleet

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os/exec"
	"strings"
	"testing"
	"time"

	"authgear-forward-auth/resolver"
)

// redis-cli's -x reads the last word from standard input.
func (r *redis) put(t *testing.T, text string, args ...string) {
	t.Helper()
	cmd := exec.Command("redis-cli", append([]string{"-s", r.dir + "/redis.sock", "-x"}, args...)...)
	cmd.Stdin = strings.NewReader(text)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
}

// nobody knows any credential.
var nobody = resolverFunc(func() (*resolver.Session, error) {
	return nil, &resolver.InvalidError{Reason: resolver.UnknownToken}
})

type resolverFunc func() (*resolver.Session, error)

func (f resolverFunc) Resolve(context.Context, resolver.Credentials) (*resolver.Session, error) {
	return f()
}

func (f *Fleet) valueKeyOf(token string) string {
	return valueKey(f.secrets.name(bearer(token).Key()))
}

func TestWhatIsUnderOurNamesHarmsNobody(t *testing.T) {
	r := startRedis(t)
	one, two := join(t, r), join(t, r)
	tokens := []string{"hash", "huge", "list"}
	r.do(t, "hset", one.valueKeyOf("hash"), "a", "b")
	r.do(t, "rpush", one.valueKeyOf("list"), "a", "b")
	r.put(t, strings.Repeat("x", 16<<20), "set", one.valueKeyOf("huge"))
	ada := &authgear{}
	for _, token := range tokens {
		for range 10 { // more than make the breaker trip
			if s, err := two.Known().Resolve(t.Context(), bearer(token)); err == nil {
				t.Errorf("%s: %v", token, s)
			}
		}
		if troubles := two.Troubles(); len(troubles) > 0 {
			t.Errorf("%s: %q", token, troubles)
		}
		if _, err := one.Asking(ada).Resolve(t.Context(), bearer(token)); err != nil {
			t.Errorf("%s: %v", token, err)
		}
	}
	for _, token := range tokens {
		eventually(t, token+" is shared all the same", func() bool {
			_, err := two.Known().Resolve(t.Context(), bearer(token))
			return err == nil
		})
	}
	if n := ada.calls.Load(); n != 3 {
		t.Errorf("Authgear was asked %d times, want 3", n)
	}
	if n := two.counted("look error"); n < 20 || n >= 30 { // a busy machine adds one now and then
		t.Errorf("%d replies were errors, want those about the hash and the list, 20, and not those about the rest", n)
	}
}

func TestAHugeStreamIsNotRead(t *testing.T) {
	r := startRedis(t)
	one := join(t, r, func(o *Options) {
		o.Warn = func(err error) {
			if strings.Contains(err.Error(), "an event") {
				t.Error("it was read: ", err)
			}
		}
	})
	r.put(t, strings.Repeat("x", 32<<20), "xadd", one.stream, "*", "e")
	eventually(t, "it is noticed", func() bool { return one.counted("receive error") > 0 })
	eventually(t, "it is said", func() bool {
		list := one.Troubles()
		return len(list) == 1 && strings.Contains(list[0], "cannot be read")
	})
	if s, err := one.Asking(&authgear{}).Resolve(t.Context(), bearer("t")); err != nil || s.UserID != "ada" {
		t.Errorf("asking by itself: %v, %v", s, err)
	}
}

func TestAReplyThatIsTooLongIsCutOff(t *testing.T) {
	for reply, ok := range map[string]bool{
		"$5\r\nhello\r\n":          true,
		"*2\r\n$1\r\na\r\n$-1\r\n": true,
		"%1\r\n+a\r\n:1\r\n":       true,
		"$99999999999\r\n":         false,
		"*99999999999\r\n":         false,
		"*9\r\n*99999999\r\n":      false,
		"%99999999\r\n":            false,
		"$-1\r\n*-1\r\n_\r\n":      true,
		strings.Repeat("+", 5<<20): false,
		fmt.Sprintf("*3\r\n%[1]s%[1]s%[1]s", "$2000000\r\n"+strings.Repeat("x", 2000000)+"\r\n"): false,
		strings.Repeat("$2000000\r\n"+strings.Repeat("x", 2000000)+"\r\n", 4):                    true, // each alone
	} {
		here, there := net.Pipe()
		go func() {
			for text := reply; text != ""; text = text[min(7001, len(text)):] { // in any pieces
				if _, err := there.Write([]byte(text[:min(7001, len(text))])); err != nil {
					return
				}
			}
			there.Close()
		}()
		var err error
		c := &bounded{Conn: here}
		for piece := make([]byte, 4096); err == nil; {
			_, err = c.Read(piece)
		}
		if cut := errors.Is(err, errTooMuch); cut == ok {
			t.Errorf("%.30q: %v", reply, err)
		}
	}
}

func TestACopyOfAnEventIsNotHeardAgain(t *testing.T) {
	r := startRedis(t)
	one, two := join(t, r), join(t, r)
	one.Tell(Event{User: "ada"})
	eventually(t, "it is told", func() bool { return len(two.heard()) == 1 })
	// As whoever may write does it: the same text under another id.
	out := r.do(t, "--no-raw", "eval", `local e = redis.call('xrange', KEYS[1], '-', '+')
		for i = 1, 3000 do redis.call('xadd', KEYS[1], '*', unpack(e[1][2])) end
		return redis.call('xlen', KEYS[1])`, "1", one.stream)
	if !strings.Contains(out, "3001") {
		t.Fatal(out)
	}
	one.Tell(Event{User: "last"})
	eventually(t, "the last one is told", func() bool { return two.heard()[len(two.heard())-1].User == "last" })
	if n := len(two.heard()); n != 2 {
		t.Errorf("it heard %d events, want 2", n)
	}
}

func TestMillionsOfMadeUpEventsDelayNoAnswer(t *testing.T) {
	r := startRedis(t)
	quietly := func(o *Options) { o.Warn = func(error) {} }
	one := join(t, r, quietly)
	one.Tell(Event{User: "first"})
	eventually(t, "it is told", func() bool { return one.counted("publish ok") == 1 })
	r.do(t, "eval", "for i = 1, 100000 do redis.call('xadd', KEYS[1], '*', 'e', 'made up') end", "1", one.stream)
	one.Tell(Event{User: "last"})
	late := join(t, r, quietly)
	eventually(t, "a new replica hears the good ones", func() bool { return len(late.heard()) == 2 })
}

func TestOldValuesAreNoConfirmation(t *testing.T) {
	r := startRedis(t)
	one := join(t, r)
	one.Asking(&authgear{}).Resolve(t.Context(), bearer("t"))
	eventually(t, "it is known", func() bool {
		_, err := one.Known().Resolve(t.Context(), bearer("t"))
		return err == nil
	})
	r.do(t, "copy", one.valueKeyOf("t"), "kept")
	after := time.Now()
	one.Asking(nobody).Resolve(t.Context(), notBefore(bearer("t"), after))
	if n := r.do(t, "exists", one.valueKeyOf("t")); n != "0\n" {
		t.Error("Authgear does not know it any more, and the others are not told")
	}
	r.do(t, "copy", "kept", one.valueKeyOf("t"), "replace")
	if s, err := one.Known().Resolve(t.Context(), notBefore(bearer("t"), after)); !errors.Is(err, resolver.ErrNotMine) {
		t.Errorf("an old value is taken for a new one: %+v %v", s, err)
	}
}

func TestAnotherProjectIsNotThisOne(t *testing.T) {
	r := startRedis(t)
	one := join(t, r)
	other := join(t, r, func(o *Options) { o.Issuer = "https://staging.example.com" })
	one.Asking(&authgear{}).Resolve(t.Context(), bearer("t"))
	one.Tell(Event{User: "ada"})
	eventually(t, "it is written", func() bool { return one.counted("share ok") == 1 && one.counted("publish ok") == 1 })
	if s, err := other.Known().Resolve(t.Context(), bearer("t")); !errors.Is(err, resolver.ErrNotMine) {
		t.Errorf("it knows %+v %v", s, err)
	}
	if other.stream == one.stream {
		t.Error("they have one stream")
	}
	if string(KeySecret("s", "a")) == string(KeySecret("s", "b")) {
		t.Error("their credentials have the same keys")
	}
}

func TestTheAgeByTheClockOfRedisIsNeverTooYoung(t *testing.T) {
	asked := time.Now()
	truth := asked.Add(7 * time.Second) // by the clock of Redis
	const took, age = 200 * time.Millisecond, 3 * time.Second
	for _, writer := range []time.Duration{0, took / 2, took} { // when Redis looked at its clock
		for _, reader := range []time.Duration{0, took / 2, took} {
			var w, r clock
			w.seen.Store(&sight{asked, asked.Add(took), truth.Add(writer)})
			r.seen.Store(&sight{asked, asked.Add(took), truth.Add(reader)})
			earliest, _, err := w.now(time.Minute)
			if err != nil {
				t.Fatal(err)
			}
			v := value{Wall: asked.UnixNano(), Redis: earliest.Add(-time.Since(asked)).UnixNano()}
			_, latest, err := r.now(time.Minute)
			if err != nil {
				t.Fatal(err)
			}
			now := asked.Add(age)
			at, err := v.asked(now.Add(-500*time.Millisecond), latest.Add(-time.Since(asked)+age)) // whose own clock is behind
			if have := now.Add(-500 * time.Millisecond).Sub(at); err != nil || have < age {
				t.Errorf("looked at after %s and %s: %s old, %v, and it is %s", writer, reader, have, err, age)
			}
		}
	}
}
