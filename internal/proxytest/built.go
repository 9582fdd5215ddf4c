package proxytest

import (
	"debug/buildinfo"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"testing"
)

// Built returns a proxy that `make test` has built into bin/.
func Built(t testing.TB, name string) string {
	t.Helper()
	path, err := filepath.Abs(filepath.Join("..", "bin", name))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(path); err != nil {
		t.Fatalf("%v: `make bin/%s` builds it", err, name)
	}
	return path
}

// BuiltVersion returns the version of a proxy in bin/, which is that of its module.
func BuiltVersion(name string) string {
	info, err := buildinfo.ReadFile(filepath.Join("..", "bin", name))
	if err != nil {
		return "" // its tests say so
	}
	return number.FindString(info.Main.Version)
}

// Installed returns a proxy that `make test` has installed.
func Installed(t testing.TB, name string) string {
	t.Helper()
	path := installed(name)
	if path == "" {
		t.Fatalf("%s is not installed: `make test` installs it", name)
	}
	return path
}

// InstalledVersion returns what an installed proxy says of its version.
func InstalledVersion(name string) string {
	said, err := exec.Command(installed(name), "-v").CombinedOutput()
	if err != nil {
		return "" // its tests say so
	}
	return number.FindString(string(said))
}

func installed(name string) string {
	for _, path := range []string{name, "/usr/sbin/" + name} { // which is not in everybody's PATH
		if path, err := exec.LookPath(path); err == nil {
			return path
		}
	}
	return ""
}

var number = regexp.MustCompile(`\d+\.\d+\.\d+`)
