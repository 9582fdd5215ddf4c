package main

import (
	"flag"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"
)

var update = flag.Bool("update", false, "write what is made from the code into README.md and docs/settings.md")

// A variable is a setting as the pages show it.
type variable struct{ name, form, limits, value, unset, meaning string }

// forms are how values are written, by the type of the setting.
var forms = map[reflect.Type]string{
	reflect.TypeFor[origin]():        "an origin, such as `https://myapp.authgear.cloud`",
	reflect.TypeFor[httpURL]():       "a URL",
	reflect.TypeFor[mode]():          "one of these",
	reflect.TypeFor[confirm]():       "one of these",
	reflect.TypeFor[string]():        "the path of a file",
	reflect.TypeFor[time.Duration](): "a duration, such as `30s` or `5m`",
	reflect.TypeFor[[]string]():      "a list, with commas",
	reflect.TypeFor[cookieName]():    "a part of a cookie's name",
	reflect.TypeFor[[]cookieName]():  "a list, with commas",
	reflect.TypeFor[byteSize]():      "a size, such as `64MiB`",
	reflect.TypeFor[secrets]():       "a secret, or two with a comma or a line end between them",
	reflect.TypeFor[secret]():        "a secret",
	reflect.TypeFor[prefixes]():      "a list of addresses and ranges, with commas",
	reflect.TypeFor[address]():       "an address, such as `127.0.0.1:4180`, `:4180` or `unix:/path/to.sock`",
	reflect.TypeFor[logLevel]():      "one of these",
	reflect.TypeFor[logFormat]():     "one of these",
	reflect.TypeFor[decisions]():     "one of these",
}

// variables reads the settings from their types and the comments in the source.
func variables(t *testing.T) (list []variable) {
	t.Helper()
	source := read(t, "settings.go")
	file, err := parser.ParseFile(token.NewFileSet(), "settings.go", source, parser.ParseComments)
	if err != nil {
		t.Fatal(err)
	}
	comments := map[string]string{}
	for _, field := range file.Scope.Lookup("settings").Decl.(*ast.TypeSpec).Type.(*ast.StructType).Fields.List {
		comments[field.Names[0].Name] = strings.Join(strings.Fields(field.Doc.Text()), " ")
	}
	for field := range reflect.TypeFor[settings]().Fields() {
		v := variable{name: field.Tag.Get("envconfig"), form: forms[field.Type], value: field.Tag.Get("default"), unset: field.Tag.Get("unset"), meaning: comments[field.Name]}
		if v.form == "" || v.meaning == "" || v.value == "" && v.unset == "" {
			t.Errorf("%s: it lacks a comment, or a default or unset in its tag, or forms here lacks %s", v.name, field.Type)
		}
		if m := regexp.MustCompile(`problem\("` + v.name + `", "(must be [^"]*?)(?:, not %s)?"`).FindStringSubmatch(source); m != nil {
			v.limits = "; " + strings.ReplaceAll(m[1], " (%s)", "")
		}
		list = append(list, v)
	}
	return list
}

func (v variable) initial() string {
	switch {
	case v.unset == "":
		return "`" + v.value + "`"
	case v.value == "":
		return v.unset
	}
	return v.unset + ": `" + strings.ReplaceAll(v.value, ",", "`, `") + "`"
}

func (v variable) quoted() string {
	initial := "Default: " + v.initial()
	if v.unset == "required" {
		initial = "Required"
	}
	return fmt.Sprintf("> %s. %s%s. %s.\n", sentence(v.meaning), sentence(v.form), v.limits, initial)
}

func sentence(s string) string { return strings.ToUpper(s[:1]) + s[1:] }

// row is the setting in the README's table, and its file if it may stand in one.
func (v variable) row() string {
	initial := v.unset
	if initial == "" {
		initial = "`" + v.value + "`"
	}
	anchor := strings.ToLower(v.name)
	row := fmt.Sprintf("| [`%s`](docs/settings.md#%s) | %s | %s |\n", v.name, anchor, initial, v.meaning)
	if slices.Contains(secretNames(), v.name) {
		row += fmt.Sprintf("| [`%s_FILE`](docs/settings.md#%s) | | a file that holds it |\n", v.name, anchor)
	}
	return row
}

const (
	tableBegin = "<!-- made by: go test -run TestThePagesSayWhatTheSettingsAre . -update -->\n\n"
	tableEnd   = "\n<!-- end of what is made -->\n"
)

func TestThePagesSayWhatTheSettingsAre(t *testing.T) {
	list := variables(t)
	table := "| Variable | Default | Meaning |\n|---|---|---|\n"
	var headings strings.Builder
	page := read(t, "docs/settings.md")
	for _, v := range list {
		table += v.row()
		headings.WriteString("## `" + v.name + "`\n")
		section := regexp.MustCompile("(?m)^## `" + v.name + "`\n\n(> .*\n\n)?")
		if !section.MatchString(page) {
			t.Errorf("docs/settings.md lacks a section %s, which says when to change it", v.name)
		}
		page = section.ReplaceAllLiteralString(page, "## `"+v.name+"`\n\n"+v.quoted()+"\n")
	}
	have := strings.Join(regexp.MustCompile("(?m)^## .*\n").FindAllString(page, -1), "")
	if have != headings.String() {
		t.Errorf("docs/settings.md has the sections\n%sand should have\n%s", have, &headings)
	}
	expectPage(t, "docs/settings.md", page)

	readme := read(t, "README.md")
	head, rest, begins := strings.Cut(readme, tableBegin)
	_, tail, ends := strings.Cut(rest, tableEnd)
	if !begins || !ends {
		t.Fatalf("README.md lacks one of the lines %s%s", tableBegin, tableEnd)
	}
	expectPage(t, "README.md", head+tableBegin+table+tableEnd+tail)
}

// expectPage compares a page with what it should be, or writes it.
func expectPage(t *testing.T, name, want string) {
	t.Helper()
	if read(t, name) == want {
		return
	}
	if *update {
		if err := os.WriteFile(name, []byte(want), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	t.Errorf("%s says otherwise than the code. Run: go test -run %s . -update", name, t.Name())
}
