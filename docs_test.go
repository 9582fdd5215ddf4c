package main

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// Between an excerpt and the file that it is from, comments and white space may
// differ. What is left out is marked by a line that begins with …, in a comment.
func TestAnExcerptIsWhatIsShipped(t *testing.T) {
	for _, page := range []string{"nginx", "traefik", "caddy", "haproxy", "envoy"} {
		text := read(t, "docs/"+page+".md")
		marked := regexp.MustCompile("(?ms)^<!-- from (\\S+) -->\n```\\w*\n(.*?)^```$").FindAllStringSubmatch(text, -1)
		if len(marked) == 0 || len(marked) != strings.Count(text, "<!-- from ") {
			t.Errorf("docs/%s.md: %d excerpts behind %d marks", page, len(marked), strings.Count(text, "<!-- from "))
		}
		for _, m := range marked {
			if line := differs(strings.Split(m[2], "\n"), strings.Split(read(t, m[1]), "\n")); line != "" {
				t.Errorf("docs/%s.md: %s does not have this line there: %s", page, m[1], line)
			}
		}
	}
}

func TestWhatDiffersFromAFileIsFound(t *testing.T) {
	file := []string{"a {", "  b c;  # why", "", "  # more", "  d;", "}", "e"}
	for _, tt := range []struct{ excerpt, want string }{
		{"a {\n b  c; # other\n d;\n}", ""},
		{"b c;\nd;\n# …\ne", ""},
		{"a {\n…\n}", ""},
		{"a {\nd;", "d;"},
		{"d;\nb c;", "b c;"},
		{"b;", "b;"},
		{"e\n…\na {", "a {"},
	} {
		if got := differs(strings.Split(tt.excerpt, "\n"), file); got != tt.want {
			t.Errorf("%q differs in %q, want %q", tt.excerpt, got, tt.want)
		}
	}
}

// differs returns the first line of an excerpt that its file does not have there.
func differs(excerpt, file []string) string {
	excerpt, file = significant(excerpt), significant(file)
	longest := 0
	for start := range file {
		longest = max(longest, follow(excerpt, file[start:]))
	}
	if longest == len(excerpt) {
		return ""
	}
	return excerpt[longest]
}

// follow returns how many lines of an excerpt a file begins with.
func follow(excerpt, file []string) int {
	for i, line := range excerpt {
		if line == "…" {
			best := i + 1
			for skip := range file {
				best = max(best, i+1+follow(excerpt[i+1:], file[skip:]))
			}
			return best
		}
		if len(file) == 0 || file[0] != line {
			return i
		}
		file = file[1:]
	}
	return len(excerpt)
}

var comment = regexp.MustCompile(`(^|\s)(#|--)(\s.*)?$`)

// significant returns the lines without comments and superfluous white space.
func significant(lines []string) (list []string) {
	for _, line := range lines {
		if strings.HasPrefix(strings.TrimLeft(line, " \t#-"), "…") {
			list = append(list, "…")
		} else if line = strings.Join(strings.Fields(comment.ReplaceAllString(line, "")), " "); line != "" && !strings.HasPrefix(line, "#") {
			list = append(list, line)
		}
	}
	return list
}

func TestALinkLeadsSomewhere(t *testing.T) {
	fenced := regexp.MustCompile("(?ms)^```.*?^```$")
	for _, page := range pages(t) {
		text := fenced.ReplaceAllString(read(t, page), "")
		for _, m := range regexp.MustCompile(`\]\(([^()\s]+)\)`).FindAllStringSubmatch(text, -1) {
			if strings.Contains(m[1], "://") {
				continue
			}
			path, anchor, _ := strings.Cut(m[1], "#")
			file := filepath.Join(filepath.Dir(page), path)
			if path == "" {
				file = page
			}
			if _, err := os.Stat(file); err != nil {
				t.Errorf("%s: the link to %s: %v", page, m[1], err)
			} else if anchor != "" && !hasHeading(read(t, file), anchor) {
				t.Errorf("%s: the link to %s: there is no such heading", page, m[1])
			}
		}
	}
}

// hasHeading tells whether a page has a heading that one links to by that anchor.
func hasHeading(text, anchor string) bool {
	for _, m := range regexp.MustCompile(`(?m)^#+ (.*)$`).FindAllStringSubmatch(text, -1) {
		name := regexp.MustCompile(`[^\p{L}\p{N} _-]`).ReplaceAllString(strings.ToLower(m[1]), "")
		if strings.ReplaceAll(name, " ", "-") == anchor {
			return true
		}
	}
	return false
}

func read(t *testing.T, name string) string {
	t.Helper()
	content, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return string(content)
}
