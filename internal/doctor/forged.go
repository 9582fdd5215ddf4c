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
