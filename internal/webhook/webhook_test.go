package webhook

import (
	"crypto/hmac"
	"crypto/sha256"
	_ "embed"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/valyala/fasthttp"
	"github.com/valyala/fasthttp/fasthttputil"

	"authgear-forward-auth/internal/turn/turntest"
)

const (
	secret  = "x3Vq9LJ0s7bTnE5aYwKfUdCz2MhGpR8i"
	another = "Qm1Zt6oXcD4vBj7NyHk0LrSgWeAu9PfI"

	ada   = "4098a1a2-805e-4235-9698-8708fb27df95"
	grace = "0b1cf3a4-6b3e-4f4e-9d0c-6a2f1f0a8c11"

	then = 1795186561 // when things happen, unless a test says otherwise
)

//go:embed testdata/recorded.json
var recordedJSON []byte

// recorded are deliveries of a real Authgear, as they came.
type recorded struct {
	Secret     string
	Deliveries []struct{ Type, Signature, Body string }
}

func recordings(t testing.TB) (r recorded) {
	t.Helper()
	if err := json.Unmarshal(recordedJSON, &r); err != nil {
		t.Fatal(err)
	}
	return r
}

// A desk receives deliveries and writes down what comes of them.
type desk struct {
	handler fasthttp.RequestHandler

	mu      sync.Mutex
	told    []Event
	counted []string // kind and outcome
}

func newDesk(secrets ...string) *desk {
	d := &desk{}
	forget := func(e Event) {
		d.mu.Lock()
		defer d.mu.Unlock()
		d.told = append(d.told, e)
	}
	count := func(kind, outcome string) {
		d.mu.Lock()
		defer d.mu.Unlock()
		d.counted = append(d.counted, kind+" "+outcome)
	}
	d.handler = Handler(func() []string { return secrets }, forget, count)
	return d
}

// post delivers a body and returns the status. Every answer must be empty.
func (d *desk) post(t testing.TB, body, signature string) int {
	t.Helper()
	var ctx fasthttp.RequestCtx
	ctx.Request.Header.SetMethod(fasthttp.MethodPost)
	ctx.Request.SetBodyString(body)
	if signature != "" {
		ctx.Request.Header.Set("X-Authgear-Body-Signature", signature)
	}
	d.handler(&ctx)
	if answer := ctx.Response.Body(); len(answer) > 0 {
		t.Errorf("the answer to %.60q has the body %q", body, answer)
	}
	return ctx.Response.StatusCode()
}

func (d *desk) postSigned(t testing.TB, body string) int {
	t.Helper()
	return d.post(t, body, sign(secret, body))
}

func sign(key, body string) string {
	mac := hmac.New(sha256.New, []byte(key))
	mac.Write([]byte(body))
	return hex.EncodeToString(mac.Sum(nil))
}

// at runs f in a bubble where it is that time.
func at(t *testing.T, unix int64, f func(*testing.T)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		time.Sleep(time.Until(time.Unix(unix, 0)))
		f(t)
	})
}

// about is an event of ada's, as Authgear writes it.
func about(kind string) string {
	return withPayload(kind, `{"user":`+userJSON(ada)+`}`)
}

func withPayload(kind, payload string) string {
	return eventJSON(kind, payload, fmt.Sprintf(`{"timestamp":%d,"user_id":null,"triggered_by":"admin_api","audit_context":{"http_url":"http://localhost:23000/graphql"},"preferred_languages":[],"language":"en","geo_location_code":null,"app_id":"lab"}`, then))
}

func withContext(kind, context string) string {
	return eventJSON(kind, `{"user":`+userJSON(ada)+`}`, context)
}

func eventJSON(kind, payload, context string) string {
	return fmt.Sprintf(`{"id":"00000000000002cc","seq":716,"type":%q,"payload":%s,"context":%s}`, kind, payload, context)
}

func userJSON(id string) string {
	return fmt.Sprintf(`{"id":%q,"created_at":"2026-11-20T14:55:40.151075Z","is_anonymous":false,"is_disabled":false,"is_deactivated":false,"is_anonymized":false,"standard_attributes":{"email":"ada@example.com"},"custom_attributes":{"id":"x","user":{"id":"x"}},"roles":["auditor"],"groups":[]}`, id)
}

func TestDeliveriesOfARealAuthgear(t *testing.T) {
	want := map[string]struct {
		counted string
		ends    bool
	}{
		"user.created":              {"user.created ignored", false},
		"user.authenticated":        {"user.authenticated ignored", false},
		"user.profile.updated":      {"user.profile.updated forgotten", false},
		"identity.email.verified":   {"identity.* forgotten", false},
		"identity.email.unverified": {"identity.* forgotten", false},
		"identity.username.added":   {"identity.* forgotten", false},
		"user.disabled":             {"user.disabled forgotten", true},
		"user.reenabled":            {"user.reenabled forgotten", false},
		"user.deletion_scheduled":   {"user.deletion_scheduled forgotten", true},
		"user.deletion_unscheduled": {"user.deletion_unscheduled forgotten", false},
		"user.anonymized":           {"user.anonymized forgotten", true},
		"user.deleted":              {"user.deleted forgotten", true},
	}
	r := recordings(t)
	if len(r.Deliveries) != len(want) {
		t.Fatalf("%d deliveries, want %d", len(r.Deliveries), len(want))
	}
	for _, delivery := range r.Deliveries {
		t.Run(delivery.Type, func(t *testing.T) {
			var sent struct {
				Context struct {
					Timestamp int64
					UserID    string `json:"user_id"`
				}
			}
			if err := json.Unmarshal([]byte(delivery.Body), &sent); err != nil {
				t.Fatal(err)
			}
			at(t, sent.Context.Timestamp+1, func(t *testing.T) {
				d := newDesk(r.Secret)
				if status := d.post(t, delivery.Body, delivery.Signature); status != 200 {
					t.Fatalf("status %d, want 200", status)
				}
				var events []Event
				if strings.HasSuffix(want[delivery.Type].counted, forgotten) {
					events = []Event{{sent.Context.UserID, time.Unix(sent.Context.Timestamp, 0), want[delivery.Type].ends}}
				}
				d.check(t, events, want[delivery.Type].counted)
			})
		})
	}
}

// check compares what came of the deliveries so far.
func (d *desk) check(t testing.TB, told []Event, counted ...string) {
	t.Helper()
	if !slices.EqualFunc(d.told, told, same) {
		t.Errorf("told %v, want %v", d.told, told)
	}
	if !slices.Equal(d.counted, counted) {
		t.Errorf("counted %q, want %q", d.counted, counted)
	}
}

func same(a, b Event) bool { return a.User == b.User && a.At.Equal(b.At) && a.Ends == b.Ends }

func TestWhatAnEventMeans(t *testing.T) {
	for _, c := range []struct {
		event, counted string
		forgets, ends  bool
	}{
		{"user.disabled", "user.disabled forgotten", true, true},
		{"user.deleted", "user.deleted forgotten", true, true},
		{"user.deletion_scheduled", "user.deletion_scheduled forgotten", true, true},
		{"user.anonymization_scheduled", "user.anonymization_scheduled forgotten", true, true},
		{"user.anonymized", "user.anonymized forgotten", true, true},
		{"user.reenabled", "user.reenabled forgotten", true, false},
		{"user.deletion_unscheduled", "user.deletion_unscheduled forgotten", true, false},
		{"user.anonymization_unscheduled", "user.anonymization_unscheduled forgotten", true, false},
		{"user.profile.updated", "user.profile.updated forgotten", true, false},
		{"user.anonymous.promoted", "user.anonymous.promoted forgotten", true, false},
		{"user.reauthenticated", "user.reauthenticated forgotten", true, false},
		{"user.created", "user.created ignored", false, false},
		{"user.authenticated", "user.authenticated ignored", false, false},
		{"identity.phone.removed", "identity.* forgotten", true, false},
		{"identity.oauth.disconnected", "identity.* forgotten", true, false},
		{"identity.biometric.enabled", "identity.* forgotten", true, false},
		{"identity.email.verified", "identity.* forgotten", true, false},
		{"usage.alert.triggered", "other ignored", false, false},
		{"project.domain.created", "other ignored", false, false},
		{"user.signed_out", "other ignored", false, false},
		{"USER.DISABLED", "other ignored", false, false},
		{"identity", "other ignored", false, false},
	} {
		t.Run(c.event, func(t *testing.T) {
			at(t, then, func(t *testing.T) {
				d := newDesk(secret)
				if status := d.postSigned(t, about(c.event)); status != 200 {
					t.Errorf("status %d, want 200", status)
				}
				var events []Event
				if c.forgets {
					events = []Event{{ada, time.Unix(then, 0), c.ends}}
				}
				d.check(t, events, c.counted)
			})
		})
	}
}

func TestAWindowThatHasYetToBegin(t *testing.T) {
	const now = then + 60 // the delivery was slow
	for name, c := range map[string]struct {
		payload string
		want    string
	}{
		"no window":                 {`{"user":{"id":"U"}}`, forgotten},
		"null":                      {`{"user":{"id":"U"},"temporarily_disabled_from":null,"temporarily_disabled_until":null}`, forgotten},
		"next month":                {`{"user":{"id":"U","is_disabled":false},"temporarily_disabled_from":"2026-12-24T00:00:00Z","temporarily_disabled_until":"2027-01-02T00:00:00Z"}`, ignored},
		"next month, in the user":   {`{"user":{"id":"U","temporarily_disabled_from":"2026-12-24T00:00:00Z"}}`, ignored},
		"next month, fractions":     {`{"user":{"id":"U"},"temporarily_disabled_from":"2026-12-24T08:00:00.123456+08:00"}`, ignored},
		"disabled all the same":     {`{"user":{"id":"U","is_disabled":true},"temporarily_disabled_from":"2026-12-24T00:00:00Z"}`, forgotten},
		"last month":                {`{"user":{"id":"U","is_disabled":true},"temporarily_disabled_from":"2026-10-24T00:00:00Z"}`, forgotten},
		"last month, not disabled":  {`{"user":{"id":"U","is_disabled":false},"temporarily_disabled_from":"2026-10-24T00:00:00Z"}`, forgotten},
		"begun since the event":     {`{"user":{"id":"U","is_disabled":false},"temporarily_disabled_from":"2026-11-20T14:56:31Z"}`, forgotten},
		"begins just now":           {`{"user":{"id":"U","is_disabled":false},"temporarily_disabled_from":"2026-11-20T14:57:01Z"}`, forgotten},
		"begins in a second":        {`{"user":{"id":"U","is_disabled":false},"temporarily_disabled_from":"2026-11-20T14:57:02Z"}`, ignored},
		"a time that nobody reads":  {`{"user":{"id":"U"},"temporarily_disabled_from":"tomorrow"}`, forgotten},
		"a time of another type":    {`{"user":{"id":"U"},"temporarily_disabled_from":1798070400}`, forgotten},
		"a time in a list":          {`{"user":{"id":"U"},"temporarily_disabled_from":["2026-12-24T00:00:00Z"]}`, forgotten},
		"only an end":               {`{"user":{"id":"U"},"temporarily_disabled_until":"2027-01-02T00:00:00Z"}`, forgotten},
		"another user's, next year": {`{"user":{"id":"U"},"anonymous_user":{"temporarily_disabled_from":"2027-12-24T00:00:00Z"}}`, forgotten},
	} {
		t.Run(name, func(t *testing.T) {
			at(t, now, func(t *testing.T) {
				d := newDesk(secret)
				if status := d.postSigned(t, withPayload("user.disabled", strings.ReplaceAll(c.payload, `"U"`, `"`+ada+`"`))); status != 200 {
					t.Errorf("status %d, want 200", status)
				}
				var events []Event
				if c.want == forgotten {
					events = []Event{{ada, time.Unix(then, 0), true}}
				}
				d.check(t, events, "user.disabled "+c.want)
			})
		})
	}

	t.Run("a window has no part in other events", func(t *testing.T) {
		at(t, now, func(t *testing.T) {
			d := newDesk(secret)
			d.postSigned(t, withPayload("user.deleted", `{"user":{"id":"`+ada+`"},"temporarily_disabled_from":"2026-12-24T00:00:00Z"}`))
			d.check(t, []Event{{ada, time.Unix(then, 0), true}}, "user.deleted forgotten")
		})
	})
	t.Run("Authgear's clock is ahead, and the window has begun there", func(t *testing.T) {
		at(t, then-60, func(t *testing.T) {
			d := newDesk(secret)
			d.postSigned(t, withPayload("user.disabled", `{"user":{"id":"`+ada+`"},"temporarily_disabled_from":"2026-11-20T14:56:00Z"}`))
			d.check(t, []Event{{ada, time.Unix(then, 0), true}}, "user.disabled forgotten")
		})
	})
}

func TestTheTimeOfAnEvent(t *testing.T) {
	for name, c := range map[string]struct {
		context string
		want    int64
	}{
		"a second ago":              {`{"timestamp":1795186560}`, then - 1},
		"last week":                 {`{"timestamp":1794581761}`, then - 7*24*3600},
		"four minutes ahead":        {`{"timestamp":1795186801}`, then + 240},
		"five minutes ahead":        {`{"timestamp":1795186861}`, then + 300},
		"more than five minutes":    {`{"timestamp":1795186862}`, then},
		"in milliseconds":           {`{"timestamp":1795186560000}`, then},
		"the last that there is":    {`{"timestamp":9223372036854775807}`, then},
		"more than an int64":        {`{"timestamp":9223372036854775808}`, then},
		"before there were any":     {`{"timestamp":-1}`, then},
		"zero":                      {`{"timestamp":0}`, then},
		"null":                      {`{"timestamp":null}`, then},
		"a text":                    {`{"timestamp":"1795186560"}`, then},
		"with a fraction":           {`{"timestamp":1795186560.5}`, then},
		"an object":                 {`{"timestamp":{"seconds":1795186560}}`, then},
		"none":                      {`{}`, then},
		"no context":                {`null`, then},
		"with an exponent":          {`{"timestamp":1e99}`, then},
		"a hundred digits":          {`{"timestamp":` + strings.Repeat("9", 100) + `}`, then},
		"spaces around, as allowed": {`{"timestamp" : 1795186560 }`, then - 1},
	} {
		t.Run(name, func(t *testing.T) {
			at(t, then, func(t *testing.T) {
				d := newDesk(secret)
				if status := d.postSigned(t, withContext("user.deleted", c.context)); status != 200 {
					t.Errorf("status %d, want 200", status)
				}
				d.check(t, []Event{{ada, time.Unix(c.want, 0), true}}, "user.deleted forgotten")
			})
		})
	}
}

func TestWhomAnEventIsAbout(t *testing.T) {
	const context = `{"timestamp":1795186561,"user_id":"` + grace + `"}`
	for name, c := range map[string]struct {
		body string
		want []string // none: refused
	}{
		"the user, not who did it":       {eventJSON("user.deleted", `{"user":{"id":"`+ada+`"}}`, context), []string{ada}},
		"the context, without a user":    {eventJSON("user.deleted", `{}`, context), []string{grace}},
		"the context, without an id":     {eventJSON("user.deleted", `{"user":{"id":""}}`, context), []string{grace}},
		"the context, with a null":       {eventJSON("user.deleted", `{"user":null}`, context), []string{grace}},
		"the context, no payload":        {eventJSON("user.deleted", `null`, context), []string{grace}},
		"the payload is left out":        {`{"type":"user.deleted","context":` + context + `}`, []string{grace}},
		"promoted, and stays the same":   {withPayload("user.anonymous.promoted", `{"anonymous_user":{"id":"`+ada+`"},"user":{"id":"`+ada+`"},"identities":[]}`), []string{ada}},
		"promoted to another":            {withPayload("user.anonymous.promoted", `{"anonymous_user":{"id":"`+grace+`"},"user":{"id":"`+ada+`"},"identities":[]}`), []string{ada, grace}},
		"promoted, only one is named":    {withPayload("user.anonymous.promoted", `{"anonymous_user":{"id":"`+grace+`"}}`), []string{grace}},
		"promoted, the other in context": {eventJSON("user.anonymous.promoted", `{"anonymous_user":{"id":"`+ada+`"}}`, context), []string{grace, ada}},
		"nobody":                         {withPayload("user.deleted", `{}`), nil},
		"nobody, of a family":            {withPayload("identity.email.added", `{"identity":{"id":"`+ada+`","user_id":"`+ada+`"}}`), nil},
		"nobody is promoted":             {withPayload("user.anonymous.promoted", `{"user":{"id":""},"anonymous_user":null}`), nil},
		"nobody signs in":                {withPayload("user.authenticated", `{}`), nil},
		"a user that is a text":          {withPayload("user.deleted", `{"user":"`+ada+`"}`), nil},
		"an id that is a number":         {withPayload("user.deleted", `{"user":{"id":1}}`), nil},
	} {
		t.Run(name, func(t *testing.T) {
			at(t, then, func(t *testing.T) {
				d := newDesk(secret)
				status := d.postSigned(t, c.body)
				if want := map[bool]int{true: 400, false: 200}[c.want == nil]; status != want {
					t.Errorf("status %d, want %d", status, want)
				}
				var users []string
				for _, e := range d.told {
					users = append(users, e.User)
				}
				if !slices.Equal(users, c.want) {
					t.Errorf("forgot %v, want %v", users, c.want)
				}
				if outcome := map[bool]string{true: malformed, false: forgotten}[c.want == nil]; len(d.counted) != 1 || !strings.HasSuffix(d.counted[0], outcome) {
					t.Errorf("counted %q, want one %s", d.counted, outcome)
				}
			})
		})
	}
}

func TestOnlyWhatAuthgearSignedCounts(t *testing.T) {
	body := about("user.deleted")
	right := sign(secret, body)
	both := []string{secret, another}
	for name, c := range map[string]struct {
		secrets         []string
		body, signature string
		want            int
	}{
		"signed":                           {[]string{secret}, body, right, 200},
		"with the first of two":            {both, body, right, 200},
		"with the second of two":           {both, body, sign(another, body), 200},
		"the same secret stands twice":     {[]string{secret, secret}, body, right, 200},
		"with a secret of somebody else":   {both, body, sign("x", body), 401},
		"with the secret in hex":           {both, body, sign(hex.EncodeToString([]byte(secret)), body), 401},
		"with two secrets in one":          {both, body, sign(secret+another, body), 401},
		"not at all":                       {both, body, "", 401},
		"not at all, and no event":         {both, "{", "", 401},
		"of another event":                 {both, about("user.reenabled"), right, 401},
		"the body has one character more":  {both, body + " ", right, 401},
		"the body has one character less":  {both, body[:len(body)-1], right, 401},
		"another user":                     {both, strings.Replace(body, ada, grace, 1), right, 401},
		"no body":                          {both, "", right, 401},
		"in upper case":                    {both, body, strings.ToUpper(right), 401},
		"cut":                              {both, body, right[:63], 401},
		"too long":                         {both, body, right + "00", 401},
		"with a space":                     {both, body, right[:32] + " " + right[32:], 401},
		"with a prefix":                    {both, body, "sha256=" + right, 401},
		"both, in a list":                  {both, body, right + "," + right, 401},
		"not hex":                          {both, body, strings.Repeat("z", 64), 401},
		"raw":                              {both, body, string(must(hex.DecodeString(right))), 401},
		"there is no secret":               {nil, body, sign("", body), 401},
		"the secret is empty":              {[]string{""}, body, sign("", body), 401},
		"one of the secrets is empty":      {[]string{"", secret}, body, sign("", body), 401},
		"the other one is still in use":    {[]string{"", secret}, body, right, 200},
		"an empty body is no event":        {both, "", sign(secret, ""), 400},
		"the name of the secret, of event": {both, body, secret, 401},
	} {
		t.Run(name, func(t *testing.T) {
			at(t, then, func(t *testing.T) {
				d := newDesk(c.secrets...)
				if status := d.post(t, c.body, c.signature); status != c.want {
					t.Errorf("status %d, want %d", status, c.want)
				}
				switch c.want {
				case 200:
					d.check(t, []Event{{ada, time.Unix(then, 0), true}}, "user.deleted forgotten")
				case 400:
					d.check(t, nil, "other malformed")
				default:
					d.check(t, nil, "other bad_signature")
				}
			})
		})
	}
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

func TestASignedBodyThatIsNoEvent(t *testing.T) {
	for name, body := range map[string]string{
		"nothing":                  "",
		"not JSON":                 "type=user.deleted",
		"cut":                      about("user.deleted")[:200],
		"more than one":            about("user.deleted") + about("user.deleted"),
		"null":                     "null",
		"a list":                   "[" + about("user.deleted") + "]",
		"no type":                  `{"id":"00000000000002cc","payload":{"user":{"id":"` + ada + `"}}}`,
		"an empty type":            about(""),
		"a type that is a number":  `{"type":1}`,
		"an id that is a number":   `{"id":1,"type":"user.deleted","payload":{"user":{"id":"` + ada + `"}}}`,
		"nested without end":       strings.Repeat("[", 20000),
		"an event in another JSON": `{"event":` + about("user.deleted") + `}`,
	} {
		t.Run(name, func(t *testing.T) {
			d := newDesk(secret)
			if status := d.postSigned(t, body); status != 400 {
				t.Errorf("status %d, want 400", status)
			}
			d.check(t, nil, "other malformed")
		})
	}
}

// The payload of a type that means nothing here may look like anything.
func TestTheRestOfAnUnknownEventIsNotRead(t *testing.T) {
	d := newDesk(secret)
	for i, body := range []string{
		`{"id":"1","type":"usage.alert.triggered","payload":{"user":"everybody"},"context":[]}`,
		`{"id":"2","type":"usage.alert.triggered","payload":7}`,
		`{"id":"3","type":"usage.alert.triggered"}`,
	} {
		if status := d.postSigned(t, body); status != 200 {
			t.Errorf("%d: status %d, want 200", i, status)
		}
	}
	d.check(t, nil, "other ignored", "other ignored", "other ignored")
}

func TestAnEventCountsOnce(t *testing.T) {
	at(t, then, func(t *testing.T) {
		d := newDesk(secret, another)
		body := about("user.deleted")
		for i := range 3 {
			if status := d.postSigned(t, body); status != 200 {
				t.Errorf("delivery %d: status %d, want 200", i, status)
			}
		}
		if status := d.post(t, body, sign(another, body)); status != 200 {
			t.Errorf("with the other secret: status %d, want 200", status)
		}
		d.check(t, []Event{{ada, time.Unix(then, 0), true}},
			"user.deleted forgotten", "user.deleted duplicate", "user.deleted duplicate", "user.deleted duplicate")
	})
}

// Where Authgear's database was put back, ids come again, for other events.
func TestAnIDMayComeAgain(t *testing.T) {
	at(t, then, func(t *testing.T) {
		d := newDesk(secret)
		d.postSigned(t, about("user.profile.updated"))
		d.postSigned(t, strings.ReplaceAll(about("user.deleted"), ada, grace))
		d.check(t, []Event{{ada, time.Unix(then, 0), false}, {grace, time.Unix(then, 0), true}}, "user.profile.updated forgotten", "user.deleted forgotten")
	})
}

// What was refused may come again in a better state.
func TestARefusedDeliveryDoesNotUseUpItsID(t *testing.T) {
	at(t, then, func(t *testing.T) {
		d := newDesk(secret)
		good := about("user.deleted")
		d.post(t, good, sign(another, good))
		d.postSigned(t, withPayload("user.deleted", `{}`))
		d.postSigned(t, withPayload("user.deleted", `{"user":7}`))
		d.postSigned(t, good+"x")
		d.postSigned(t, good)
		d.check(t, []Event{{ada, time.Unix(then, 0), true}}, "other bad_signature",
			"user.deleted malformed", "user.deleted malformed", "other malformed", "user.deleted forgotten")
	})
}

func TestEventsWithoutAnIDAllCount(t *testing.T) {
	at(t, then, func(t *testing.T) {
		for name, body := range map[string]string{
			"none":  strings.Replace(about("user.deleted"), `"id":"00000000000002cc",`, "", 1),
			"empty": strings.Replace(about("user.deleted"), "00000000000002cc", "", 1),
			"null":  strings.Replace(about("user.deleted"), `"00000000000002cc"`, "null", 1),
		} {
			d := newDesk(secret)
			d.postSigned(t, body)
			d.postSigned(t, body)
			e := Event{ada, time.Unix(then, 0), true}
			if !slices.EqualFunc(d.told, []Event{e, e}, same) {
				t.Errorf("%s: told %v, want %v twice", name, d.told, e)
			}
		}
	})
}

func TestOnlyTheLastIDsAreRemembered(t *testing.T) {
	var s ids
	id := func(i int) string { return fmt.Sprintf("%016x", i) }
	const flood = 3*remembered + 5
	for i := range flood {
		if !s.add(id(i)) {
			t.Fatalf("id %d is known before it comes", i)
		}
		if len(s.known) > remembered || len(s.ring) > remembered {
			t.Fatalf("after id %d, %d are known and %d in the ring, want at most %d", i, len(s.known), len(s.ring), remembered)
		}
	}
	if len(s.known) != remembered || len(s.ring) != remembered {
		t.Errorf("%d are known and %d in the ring, want %d", len(s.known), len(s.ring), remembered)
	}
	for _, i := range []int{flood - 1, flood - 2, flood - remembered} {
		if s.add(id(i)) {
			t.Errorf("id %d of %d is forgotten", i, flood)
		}
	}
	for _, i := range []int{flood - remembered - 1, 0} {
		if !s.add(id(i)) {
			t.Errorf("id %d of %d is still known", i, flood)
		}
	}
}

func TestAFloodOfEventsPushesNoneOfTheLastOut(t *testing.T) {
	at(t, then, func(t *testing.T) {
		d := newDesk(secret)
		numbered := func(i int) string {
			return strings.Replace(about("user.deleted"), "00000000000002cc", fmt.Sprintf("%016x", i), 1)
		}
		for i := range remembered + 1 {
			d.postSigned(t, numbered(i))
		}
		told := len(d.told)
		d.postSigned(t, numbered(1))
		d.postSigned(t, numbered(remembered))
		if len(d.told) != told {
			t.Errorf("%d of the last %d events counted again", len(d.told)-told, remembered)
		}
		d.postSigned(t, numbered(0))
		if len(d.told) != told+1 {
			t.Errorf("the event before the last %d is still remembered", remembered)
		}
	})
}

func TestOneOfManyDeliveriesAtOnceCounts(t *testing.T) {
	d := newDesk(secret)
	body := about("user.deleted")
	var wg sync.WaitGroup
	for range 32 {
		wg.Go(func() { d.postSigned(t, body) })
	}
	wg.Wait()
	if len(d.told) != 1 || len(d.counted) != 32 {
		t.Errorf("told %d times, counted %d, want 1 and 32", len(d.told), len(d.counted))
	}
}

func TestALongBody(t *testing.T) {
	at(t, then, func(t *testing.T) {
		longest := about("user.deleted")
		longest += strings.Repeat(" ", MaxBody-len(longest))
		d := newDesk(secret)
		if status := d.postSigned(t, longest+" "); status != 413 {
			t.Errorf("a byte too long: status %d, want 413", status)
		}
		d.check(t, nil, "other too_large")
		if status := d.postSigned(t, longest); status != 200 {
			t.Errorf("the longest: status %d, want 200", status)
		}
		d.check(t, []Event{{ada, time.Unix(then, 0), true}}, "other too_large", "user.deleted forgotten")
	})
}

// On the wire, with a real client.
func TestMethods(t *testing.T) {
	d := newDesk(secret)
	listener := fasthttputil.NewInmemoryListener()
	server := &fasthttp.Server{Handler: d.handler}
	served := make(chan error)
	go func() { served <- server.Serve(listener) }()
	client := &fasthttp.HostClient{Addr: "authgear-forward-auth", Dial: func(string) (net.Conn, error) { return listener.Dial() }}

	body := about("user.deleted")
	send := func(method string) *fasthttp.Response {
		var request fasthttp.Request
		var response fasthttp.Response
		request.Header.SetMethod(method)
		request.SetRequestURI("http://authgear-forward-auth/hooks/authgear")
		request.Header.Set("x-authgear-body-signature", sign(secret, body))
		request.SetBodyString(body)
		if err := client.Do(&request, &response); err != nil {
			t.Fatalf("%s: %v", method, err)
		}
		return &response
	}
	for _, method := range []string{"GET", "HEAD", "PUT", "DELETE", "OPTIONS", "PATCH", "post"} {
		response := send(method)
		if allow := string(response.Header.Peek("Allow")); response.StatusCode() != 405 || allow != "POST" {
			t.Errorf("%s: status %d, Allow %q, want 405 and POST", method, response.StatusCode(), allow)
		}
		if len(response.Body()) > 0 {
			t.Errorf("%s: body %q, want none", method, response.Body())
		}
	}
	d.check(t, nil)
	if response := send("POST"); response.StatusCode() != 200 || len(response.Body()) > 0 {
		t.Errorf("POST: status %d, body %q, want 200 and none", response.StatusCode(), response.Body())
	}
	if len(d.told) != 1 || d.told[0].User != ada || !d.told[0].Ends {
		t.Errorf("told %v, want that ada's sessions ended", d.told)
	}

	client.CloseIdleConnections()
	if err := server.Shutdown(); err != nil {
		t.Error(err)
	}
	if err := <-served; err != nil {
		t.Error(err)
	}
}

func FuzzHandler(f *testing.F) {
	r := recordings(f)
	for _, delivery := range r.Deliveries {
		f.Add(delivery.Body, delivery.Signature, false)
		f.Add(delivery.Body, "", true)
	}
	f.Add(withPayload("user.disabled", `{"user":{"id":"a"},"temporarily_disabled_from":"2026-12-24T00:00:00Z"}`), "", true)
	f.Add(withPayload("user.anonymous.promoted", `{"anonymous_user":{"id":"a"},"user":{"id":"b"}}`), "", true)
	f.Add(`{"type":"usage.alert.triggered"}`, "", true)
	f.Add("", sign("", ""), false)
	f.Add("{", "", true)
	f.Fuzz(func(t *testing.T, body, signature string, signed bool) {
		if signed {
			signature = sign(secret, body)
		}
		valid := signature == sign(r.Secret, body) || signature == sign(secret, body)
		d := newDesk(r.Secret, secret)
		status := d.post(t, body, signature)
		if len(d.counted) != 1 {
			t.Fatalf("counted %q, want one", d.counted)
		}
		if !valid {
			if status != 401 && status != 413 || len(d.told) > 0 {
				t.Fatalf("not signed: status %d, told %v", status, d.told)
			}
			return
		}
		if status == 401 {
			t.Fatal("signed, but refused")
		}
		if told := len(d.told) > 0; told && status != 200 || told != strings.HasSuffix(d.counted[0], " "+forgotten) {
			t.Fatalf("status %d, counted %q, told %v", status, d.counted, d.told)
		}
		for _, e := range d.told {
			if e.User == "" || e.At.Unix() <= 0 || e.At.After(time.Now().Add(maxAhead)) {
				t.Errorf("told %+v", e)
			}
		}
	})
}

// Anybody can send a long body with a signature, so that takes a turn. One without costs
// nothing.
func TestASignatureTakesATurn(t *testing.T) {
	d := newDesk(secret)
	refused := func(signature string) func() {
		return func() {
			if status := d.post(t, "{}", signature); status != 401 {
				t.Errorf("signature %q: status %d, want 401", signature, status)
			}
		}
	}
	turntest.Waits(t, refused("short"), refused(sign(another, "{}")))
}
