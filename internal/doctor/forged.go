package doctor

import (
	"maps"
	"slices"
	"strconv"
	"strings"
)

// known are the fields that tell the application who is asking.
var known = []string{
	"X-Authgear-Session-Valid", "X-Authgear-User-Id", "X-Authgear-User-Anonymous", "X-Authgear-User-Verified", "X-Authgear-User-Roles",
	"X-Authgear-User-Can-Reauthenticate", "X-Authgear-Session-Amr", "X-Authgear-Session-Authenticated-At", "X-Authgear-Session-Acr",
	"X-Authgear-Client-Id", "X-Authgear-Scope",
}

// mark is the value of all that is forged.
const mark = "forged-by-doctor"

// spell returns the known names, divided by that sign.
func spell(sign string) (names []string) {
	for _, name := range known {
		names = append(names, strings.ReplaceAll(name, "-", sign))
	}
	return names
}

// mixed returns the known names with another sign in the first place, and in the
// last.
func mixed(sign string) (names []string) {
	for _, name := range known {
		last := strings.LastIndex(name, "-")
		names = append(names, strings.Replace(name, "-", sign, 1), name[:last]+sign+name[last+1:])
	}
	return names
}

func forge(names []string) (fields []string) {
	for _, name := range names {
		fields = append(fields, name, mark)
	}
	return fields
}

// forged returns the names of what was forged and has arrived, if they are divided
// by those signs alone.
func forged(arrived []arrival, signs string) []string {
	names := map[string]bool{}
	for _, x := range arrived {
		for name, values := range x.header {
			if strings.Contains(strings.Join(values, ","), mark) && strings.Trim(strings.ToLower(name), "abcdefghijklmnopqrstuvwxyz"+signs) == "" {
				names[name] = true
			}
		}
	}
	return slices.Sorted(maps.Keys(names))
}

// few names the first of many.
func few(names []string) string {
	const n = 4
	if len(names) <= n {
		return strings.Join(names, ", ")
	}
	return strings.Join(names[:n], ", ") + " and " + strconv.Itoa(len(names)-n) + " more"
}

func identity(v *visit) {
	if v.user == "" {
		v.find(noIdentity, "with a good token: no X-Authgear-User-Id arrived")
	}
}

func forgedFields(v *visit) {
	for _, s := range v.senders() {
		plain := false // forged fields pass as they are
		for _, f := range []struct {
			how    string
			fields []string
			p      *problem
		}{
			{"", forge(spell("-")), identityForged},
			{"each twice", forge(append(spell("-"), spell("-")...)), identityForged},
			{"with _", forge(spell("_")), aliasForged},
			{"with .", forge(spell(".")), aliasForged},
			{"with - and _", forge(mixed("_")), aliasForged},
			{"with - and .", forge(mixed(".")), aliasForged},
		} {
			names := forged(v.send(request{fields: append(f.fields, s.fields...)}).arrived, "-_.")
			if len(names) == 0 || plain && f.p == identityForged {
				continue
			}
			plain = plain || f.p == identityForged
			how := s.name
			if f.how != "" {
				how += ", " + f.how
			}
			v.find(f.p, "%s: %s", how, few(names))
		}
		// nginx reads what stands before Host as its first server has it.
		early := forge(slices.Concat(spell("_"), spell("."), mixed("_"), mixed(".")))
		if names := forged(v.send(request{early: early, fields: s.fields}).arrived, "-_."); len(names) > 0 {
			v.find(aliasForged, "%s, before Host: %s", s.name, few(names))
		}
		a := v.send(request{fields: append([]string{"X-Authgear-Doctor", mark}, s.fields...)})
		if a.has("X-Authgear-Doctor", mark) {
			v.find(unknownPasses, "%s: X-Authgear-Doctor", s.name)
		}
	}
}

func forgedTrailers(v *visit) {
	for _, s := range v.senders() {
		a := v.send(request{method: "POST", fields: s.fields, body: "doctor", trailers: forge([]string{"X-Authgear-User-Id"})})
		for _, x := range a.arrived {
			if x.header.Get("X-Authgear-User-Id") == mark {
				v.find(identityForged, "%s, as a trailer: X-Authgear-User-Id", s.name)
			}
			if x.trailer.Get("X-Authgear-User-Id") == mark {
				v.find(trailerPasses, "%s: X-Authgear-User-Id", s.name)
			}
		}
	}
}

// connectionTokens names the identity in Connection. RFC 9110 §7.6.1.
func connectionTokens(v *visit) {
	before := v.send(request{fields: v.good()})
	for _, value := range []string{"close, X-Authgear-User-Id", "close, " + strings.Join(spell("-"), ", ")} {
		a := v.send(request{fields: append([]string{"Connection", value}, v.good()...)})
		for _, name := range spell("-") {
			if len(before.arrived) > 0 && before.arrived[0].header.Get(name) != "" && len(a.arrived) > 0 && a.arrived[0].header.Get(name) == "" {
				v.find(identityTaken, "%s was named in Connection and did not arrive", name)
			}
		}
	}
}
