package main

import (
	"bytes"
	"context"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"authgear-forward-auth/resolver"
)

// pages are all that is written for readers.
func pages(t *testing.T) []string {
	t.Helper()
	list, err := filepath.Glob("docs/*.md")
	if err != nil {
		t.Fatal(err)
	}
	top, err := filepath.Glob("*.md")
	if err != nil {
		t.Fatal(err)
	}
	return append(list, top...)
}

var (
	blocks = regexp.MustCompile("(?ms)^```.*?^```$|^    .*?$")
	spans  = regexp.MustCompile("`([^`\n]+)`")
)

// codeOf returns the lines of a page that are code: those of its blocks, and what stands
// between backticks.
func codeOf(text string) (lines []string) {
	for _, block := range blocks.FindAllString(text, -1) {
		lines = append(lines, strings.Split(block, "\n")...)
	}
	for _, span := range spans.FindAllStringSubmatch(blocks.ReplaceAllString(text, ""), -1) {
		lines = append(lines, span[1])
	}
	return lines
}

// literals returns the texts in the source of the program, without its tests.
func literals(t *testing.T, roots ...string) (list []string) {
	t.Helper()
	for _, root := range roots {
		err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
			if err != nil || d.IsDir() || filepath.Ext(path) != ".go" || strings.HasSuffix(path, "_test.go") {
				return err
			}
			file, err := parser.ParseFile(token.NewFileSet(), path, nil, 0)
			if err != nil {
				return err
			}
			ast.Inspect(file, func(n ast.Node) bool {
				if lit, ok := n.(*ast.BasicLit); ok && lit.Kind == token.STRING {
					if text, err := strconv.Unquote(lit.Value); err == nil {
						list = append(list, text)
					}
				}
				return true
			})
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	return list
}

// reasons returns the closed set of reason codes.
func reasons() (list []string) {
	for _, r := range resolver.Reasons {
		list = append(list, string(r))
	}
	return list
}

func TestEachReasonHasItsParagraph(t *testing.T) {
	var have []string
	for _, m := range regexp.MustCompile("(?m)^## `(.*)`$").FindAllStringSubmatch(read(t, "docs/reasons.md"), -1) {
		have = append(have, m[1])
	}
	if want := reasons(); !slices.Equal(have, want) {
		t.Errorf("docs/reasons.md has %q, and the code %q", have, want)
	}
}

// Whatever a page calls by its name is there by that name.
func TestEachNameInThePagesIsKnown(t *testing.T) {
	top, err := filepath.Glob("*.go")
	if err != nil {
		t.Fatal(err)
	}
	settings, texts := settingNames(), literals(t, append(top, "resolver", "cache", "envoy", "internal")...)
	answers := append(literals(t, "internal/forwardauth"), reasons()...)
	kinds := []struct {
		what  string
		where *regexp.Regexp // its group holds the name
		known func(string) bool
	}{
		{"setting", regexp.MustCompile(`\b(AUTHGEAR_[A-Z_]*[A-Z])\b`), func(name string) bool {
			return slices.Contains(settings, name) || kubernetes.MatchString(name)
		}},
		{"path of the service", regexp.MustCompile(`:418[01](/[\w/-]*)`), func(name string) bool {
			return slices.ContainsFunc(texts, func(path string) bool {
				return path == name || len(path) > 1 && strings.HasSuffix(path, "/") && strings.HasPrefix(name, path)
			})
		}},
		{"metric", regexp.MustCompile(`\bauthgear_forward_auth_(\w+?)(?:_bucket|_sum|_count)?\b`), func(name string) bool {
			return slices.Contains(texts, name) || slices.Contains(texts, "authgear_forward_auth_"+name)
		}},
		{"metric", regexp.MustCompile("`([a-z_]+_(?:total|seconds|bytes|in_flight))[`{]"), func(name string) bool {
			return slices.Contains(texts, name) || strings.HasPrefix(name, "authgear_") || strings.HasPrefix(name, "go_") || strings.HasPrefix(name, "process_")
		}},
		{"reason or error", regexp.MustCompile(`(?:\b(?:401|403|500|503) |"reason":")([a-z]+(?:_[a-z]+)+)\b`), func(name string) bool {
			return slices.Contains(answers, name)
		}},
	}
	for _, page := range pages(t) {
		text := read(t, page)
		for _, kind := range kinds {
			for _, m := range kind.where.FindAllStringSubmatch(text, -1) {
				if !kind.known(m[1]) {
					t.Errorf("%s: there is no %s %s", page, kind.what, m[1])
				}
			}
		}
	}
}

// Whoever meets a message finds what it means.
func TestEachMessageOfTheLogIsInItsPage(t *testing.T) {
	page := read(t, "docs/logs.md")
	files, err := filepath.Glob("*.go")
	if err != nil {
		t.Fatal(err)
	}
	logged := regexp.MustCompile(`(?:Msg\(|warn\((?:s\.)?log, )"([^",;:]+)`)
	for _, file := range append(files, "internal/forwardauth/gate.go") {
		for _, m := range logged.FindAllStringSubmatch(read(t, file), -1) {
			if !strings.HasSuffix(file, "_test.go") && !strings.Contains(page, "| `"+m[1]) {
				t.Errorf("docs/logs.md lacks %q of %s", m[1], file)
			}
		}
	}
}

// A file of settings takes what is behind a value for a part of it.
func TestNoCommentStandsBehindASetting(t *testing.T) {
	for _, page := range pages(t) {
		for _, line := range regexp.MustCompile(`(?m)^ *AUTHGEAR_[A-Z_]+=\S* +#.*`).FindAllString(read(t, page), -1) {
			t.Errorf("%s: %s", page, line)
		}
	}
}

// What a page tells its reader to run can be run.
func TestEachCommandInThePagesIsThere(t *testing.T) {
	ours := regexp.MustCompile(`^\s*(?:\$ )?(?:[A-Z_]+=\S+ )*(?:\S*/)?authgear-forward-auth(?: ([a-z]+)(.*))?$`)
	targets := regexp.MustCompile(`(?m)^([a-z ]+):`).FindAllStringSubmatch(read(t, "Makefile"), -1)
	for _, page := range pages(t) {
		for _, line := range codeOf(read(t, page)) {
			if m := ours.FindStringSubmatch(line); m != nil && m[1] != "" {
				checkCommand(t, page, m[1], m[2])
			}
			if m := regexp.MustCompile(`^\s*make ([a-z]+)$`).FindStringSubmatch(line); m != nil &&
				!slices.ContainsFunc(targets, func(target []string) bool { return slices.Contains(strings.Fields(target[1]), m[1]) }) {
				t.Errorf("%s: there is no make %s", page, m[1])
			}
			if m := regexp.MustCompile(`^\s*go (?:run|test) .*?(\./\S*)`).FindStringSubmatch(line); m != nil {
				if _, err := os.Stat(strings.TrimSuffix(m[1], "/...")); err != nil {
					t.Errorf("%s: %s: %v", page, strings.TrimSpace(line), err)
				}
			}
		}
	}
}

// checkCommand tests that the program has the command, and its help the flags.
func checkCommand(t *testing.T, page, command, rest string) {
	t.Helper()
	if command != "serve" && !strings.Contains(usage, "\n  authgear-forward-auth "+command+" ") {
		t.Errorf("%s: there is no command %s", page, command)
		return
	}
	rest, _, _ = strings.Cut(rest, "#") // a comment
	rest, _, _ = strings.Cut(rest, "|") // another command
	for _, m := range regexp.MustCompile(`\s--?([a-z][\w-]*)`).FindAllStringSubmatch(rest, -1) {
		var help bytes.Buffer
		if err := run(context.Background(), []string{command, "-h"}, &help, &help); err != nil {
			t.Fatalf("%s -h: %v", command, err)
		}
		if m[1] != "h" && !regexp.MustCompile(`(?m)^  -`+m[1]+`\b`).Match(help.Bytes()) {
			t.Errorf("%s: %s has no flag -%s", page, command, m[1])
		}
	}
}

// The threat model names what shows that an attack is stopped.
func TestWhatTheThreatModelNamesExists(t *testing.T) {
	stories := read(t, "docs/conformance.md")
	_, model, _ := strings.Cut(read(t, "docs/security.md"), "\n### Forged identity\n")
	named := 0
	for line := range strings.Lines(model) {
		cells := strings.Split(strings.Trim(strings.TrimSpace(line), "|"), "|")
		if len(cells) != 3 || strings.Contains(line, "---") || strings.Contains(line, "Shown by") {
			continue
		}
		tests := regexp.MustCompile("\\[`(\\w+)`\\]\\(../(\\S+)\\)").FindAllStringSubmatch(cells[2], -1)
		played := regexp.MustCompile(`\*([^*]+)\*`).FindAllStringSubmatch(cells[2], -1)
		if len(tests)+len(played) == 0 {
			t.Errorf("nothing shows that this is stopped: %s", line)
		}
		for _, m := range tests {
			if !strings.Contains(read(t, m[2]), "\nfunc "+m[1]+"(") {
				t.Errorf("%s has no %s", m[2], m[1])
			}
		}
		for _, m := range played {
			if !strings.Contains(stories, "\n| "+m[1]+" |") {
				t.Errorf("docs/conformance.md has no story %q", m[1])
			}
		}
		named++
	}
	if named < 30 {
		t.Errorf("only %d attacks", named)
	}
}
