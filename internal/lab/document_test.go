package lab

import (
	"os"
	"path/filepath"
	"testing"
)

func TestTheReportTakesThePlaceOfTheOldOne(t *testing.T) {
	file := filepath.Join(t.TempDir(), "page.md")
	const begin, end = "<!-- figures: begin -->\n", "<!-- figures: end -->\n"
	if err := os.WriteFile(file, []byte("before\n"+begin+"old\n"+end+"after\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := WriteInto(file, "figures", "new\n"); err != nil {
			t.Fatal(err)
		}
	}
	got, err := os.ReadFile(file)
	if want := "before\n" + begin + "new\n" + end + "after\n"; err != nil || string(got) != want {
		t.Errorf("%q, %v, want %q", got, err, want)
	}
	if WriteInto(file, "others", "new\n") == nil {
		t.Error("it is written where there are no marks")
	}
}
