package policy

import (
	"errors"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"authgear-forward-auth/resolver"
)

// mayPass reads a policy anew for each question, word by word of the table of policies. What
// it does not understand lets nobody in.
func mayPass(query string, s *resolver.Session, err error) bool {
	var roles, clients []string
	optional, passes, machines := false, true, false
	params := strings.Split(query, "&")
	if query == "" {
		params = nil
	}
	if len(query) > maxLength {
		return false
	}
	for _, param := range params {
		name, value, _ := strings.Cut(param, "=")
		value, bad := url.QueryUnescape(value)
		flag := !strings.Contains(param, "=")
		switch {
		case bad != nil:
			return false
		case name == "optional" && flag:
			optional = true
		case name == "machine" && flag:
			machines = true
		case name == "preflight" && flag, name == "sign_in" && strings.HasPrefix(value, "/"):
		case name == "max_staleness" && duration(value) >= 0:
		case name == "role" && value != "":
			roles = append(roles, value)
		case name == "client_id" && value != "":
			clients = append(clients, value)
		case s == nil && slices.Contains([]string{"verified", "deny_anonymous", "scope", "signed_in_within"}, name):
		case name == "verified" && flag:
			passes = passes && s.Verified == resolver.True
		case name == "deny_anonymous" && flag:
			passes = passes && (s.Machine || s.Anonymous == resolver.False)
		case name == "scope" && value != "":
			passes = passes && slices.Contains(strings.Split(s.Scope, " "), value)
		case name == "signed_in_within" && duration(value) > 0:
			ago := now.Unix() - s.AuthenticatedAt
			passes = passes && s.AuthenticatedAt > 0 && ago <= int64(duration(value)/time.Second) && ago >= -300
		default:
			return false
		}
	}
	somebody := err == nil && (s.UserID != "" || s.Machine && machines)
	if !somebody { // a visitor, whoever says so
		return optional && (err == nil || errors.Is(err, resolver.ErrInvalid))
	}
	for _, role := range roles {
		if slices.Contains(strings.Split(s.Roles, ","), role) {
			roles = nil
			break
		}
	}
	return passes && len(roles) == 0 && (len(clients) == 0 || slices.Contains(clients, s.ClientID))
}

func duration(text string) time.Duration {
	d, err := time.ParseDuration(text)
	if err != nil {
		return -1
	}
	return d
}

// No policy, however it is written, lets somebody in whom a plain reading of it refuses.
func FuzzPolicy(f *testing.F) {
	for _, seed := range []string{
		"", "optional", "machine", "verified", "deny_anonymous", "role=admin", "role=a&role=editor", "client_id=spa", "client_id=x&client_id=robot&machine", "scope=openid", "scope=openid&scope=admin",
		"signed_in_within=10m", "signed_in_within=61m&role=admin", "signed_in_within=1e3h", "max_staleness=5s", "preflight&role=owner", "sign_in=/login", "optional&role=owner", "verified&optional",
		"role=%61dmin", "r%6Fle=admin", "role=admin#x", "role=admin;optional", "optional=", "&", "role=admin&&verified", "?optional", "ROLE=admin", "role=adm in", "role=adm+in", "role=a%00", "scope=%22", "role=é",
	} {
		for who := range byte(8) {
			f.Add(seed, who, int64(0))
		}
		f.Add(seed, byte(0), int64(1)<<62)
		f.Add(seed, byte(0), now.Unix()+86400*365)
	}
	f.Fuzz(func(t *testing.T, query string, who byte, signedIn int64) {
		rule, err := Parse(query)
		session, outcome := somebody(who, signedIn)
		may := mayPass(query, session, outcome)
		if err != nil {
			return // nobody passes, see FuzzGate
		}
		verdict := rule.Decide(session, outcome, now)
		if verdict.Outcome == Allow && !may {
			t.Errorf("%q lets %+v, %v in: %v", query, session, outcome, verdict)
		}
		if verdict.Outcome != Allow && may {
			t.Errorf("%q does not let %+v, %v in: %v", query, session, outcome, verdict)
		}
		if verdict.Reason == "" || verdict.Outcome == Misconfigured {
			t.Errorf("%q: %v", query, verdict)
		}
		for _, text := range slices.Concat(rule.Roles, rule.Scopes, rule.ClientIDs, []string{rule.SignIn}) {
			for _, c := range []byte(text) {
				if c <= ' ' || c >= 0x7f {
					t.Errorf("%q asks for %q, which no field can hold", query, text)
				}
			}
		}
	})
}

// somebody returns one of the sorts of people there are, or why there is nobody.
func somebody(who byte, signedIn int64) (*resolver.Session, error) {
	switch who % 8 {
	case 0:
		s := *ada
		if signedIn != 0 {
			s.AuthenticatedAt = max(signedIn, 0)
		}
		return &s, nil
	case 1:
		return nobody, nil
	case 2:
		return opaque, nil
	case 3:
		return robot, nil
	case 4:
		return visitor, nil
	case 5:
		return nil, expired
	case 6:
		return nil, outage
	}
	return nil, errors.New("?")
}
