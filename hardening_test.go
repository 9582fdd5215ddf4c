package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"authgear-forward-auth/internal/proxytest"
)

func TestTheAdminListenerOfOtherMachinesIsWarnedOf(t *testing.T) {
	const warning = "other machines can reach the admin listener"
	socket := t.TempDir() + "/admin.sock"
	for _, tt := range []struct {
		at     string
		warned bool
	}{
		{proxytest.FreeAddr(t), false},
		{"unix:" + socket, false},
		{strings.Replace(proxytest.FreeAddr(t), "127.0.0.1", "0.0.0.0", 1), true},
		{strings.Replace(proxytest.FreeAddr(t), "127.0.0.1", "", 1), true},
	} {
		s, _ := start(t, "AUTHGEAR_ADMIN_LISTEN="+tt.at)
		if warned := strings.Contains(s.Log(), warning); warned != tt.warned {
			t.Errorf("at %s: warned %v, want %v", tt.at, warned, tt.warned)
		}
	}
}

// A core dump would hold credentials, and so would arguments.
func TestNoSecretLeavesTheProcess(t *testing.T) {
	const secret = "a-secret-of-the-webhook"
	s := proxytest.NewService(t, "AUTHGEAR_ENDPOINT=http://127.0.0.1:9", "AUTHGEAR_WEBHOOK_SECRET="+secret)
	in, out, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer in.Close()
	defer out.Close()
	for command, addrs := range map[string][]string{"serve": {s.Addr, s.Admin}, "explain": nil} {
		inner := s.Command()
		cmd := exec.Command("sh", "-c", `ulimit -c unlimited 2>/dev/null; exec "$0" "$1"`, inner.Path, command)
		cmd.Env, cmd.Stdin = inner.Env, in // from which no credential comes
		p := proxytest.Start(t, cmd, addrs...)
		of := func(file string) string { return read(t, fmt.Sprintf("/proc/%d/%s", cmd.Process.Pid, file)) }
		none := regexp.MustCompile(`(?m)^Max core file size\s+0\s+0\s`)
		proxytest.Eventually(t, command+" may leave no core dump", func() bool { return none.MatchString(of("limits")) })
		if strings.Contains(of("cmdline"), secret) || strings.Contains(p.Output(), secret) {
			t.Errorf("%s: its arguments or its log tell the secret", command)
		}
	}
}

// What is built tells neither when nor where: anybody can build it again and compare.
func TestTheBuildIsReproducible(t *testing.T) {
	command := regexp.MustCompile(`(?m)^\tCGO_ENABLED=0 (go build .*) -o bin/authgear-forward-auth \.$`).FindStringSubmatch(read(t, "Makefile"))
	if command == nil {
		t.Fatal("the Makefile builds the program in another way")
	}
	built := func(from string) string {
		out := filepath.Join(t.TempDir(), "program")
		cmd := exec.Command("sh", "-c", strings.ReplaceAll(command[1], "$(VERSION)", "v1.2.3")+" -o "+out+" .")
		cmd.Dir = from
		cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOFLAGS=")
		if said, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("%v\n%s", err, said)
		}
		return read(t, out)
	}
	elsewhere := filepath.Join(t.TempDir(), "another", "checkout")
	if err := os.MkdirAll(elsewhere, 0o755); err != nil {
		t.Fatal(err)
	}
	sources, err := exec.Command("go", "list", "-f", `{{if not .Standard}}{{.Dir}}{{end}}`, "-deps", ".").Output()
	if err != nil {
		t.Fatal(err)
	}
	here, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	copied := []string{"go.mod", "go.sum"}
	for dir := range strings.Lines(string(sources)) {
		if place, err := filepath.Rel(here, strings.TrimSpace(dir)); err == nil && !strings.HasPrefix(place, "..") {
			files, err := filepath.Glob(filepath.Join(place, "*"))
			if err != nil {
				t.Fatal(err)
			}
			copied = append(copied, files...)
		}
	}
	for _, file := range copied {
		if info, err := os.Stat(file); err != nil || info.IsDir() {
			continue
		}
		to := filepath.Join(elsewhere, file)
		if err := os.MkdirAll(filepath.Dir(to), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(to, []byte(read(t, file)), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if built(".") != built(elsewhere) {
		t.Error("the same source in two places makes two programs")
	}
}

// Each module that go.mod asks for by itself is told why in docs/dependencies.md, and no
// other one is.
func TestEachDependencyIsToldWhy(t *testing.T) {
	direct := regexp.MustCompile(`(?m)^\t(\S+) v\S+$`)
	row := regexp.MustCompile("(?m)^\\| `([^`]+)` \\| .+ \\| .+ \\|$")
	names := func(form *regexp.Regexp, file string) (list []string) {
		for _, m := range form.FindAllStringSubmatch(read(t, file), -1) {
			list = append(list, m[1])
		}
		slices.Sort(list)
		return list
	}
	if want, got := names(direct, "go.mod"), names(row, "docs/dependencies.md"); !slices.Equal(got, want) || len(want) == 0 {
		t.Errorf("docs/dependencies.md has %q, and go.mod %q", got, want)
	}
}
