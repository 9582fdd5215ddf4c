package lab

import (
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// Build returns the path of the service in dir.
func Build(dir string) (string, error) {
	binary := filepath.Join(dir, "authgear-forward-auth")
	if out, err := exec.Command("go", "build", "-o", binary, "authgear-forward-auth").CombinedOutput(); err != nil {
		return "", fmt.Errorf("build the service: %w\n%s", err, out)
	}
	return binary, nil
}

// BuildFor builds the service for a test two directories below the sources. It looks at
// all of them: the service is another program, and else its tests would not run again
// when it has changed.
func BuildFor(t testing.TB) (binary string) {
	t.Helper()
	err := filepath.WalkDir("../..", func(path string, _ fs.DirEntry, err error) error {
		if strings.HasSuffix(path, ".go") {
			os.Stat(path)
		}
		return err
	})
	if err == nil {
		binary, err = Build(t.TempDir())
	}
	if err != nil {
		t.Fatal(err)
	}
	return binary
}
