package snippet

import "testing"

func TestAConfigurationIsEditedOnlyWhereItSaysSo(t *testing.T) {
	const shipped = "listen 8080; server a; server b;"
	got, err := Edit(shipped, "listen 8080;", "listen 1;", "server a;", "server b;", "server b;", "server c;")
	if want := "listen 1; server b; server c;"; err != nil || got != want {
		t.Errorf("edit = %q, %v, want %q", got, err, want)
	}
	if got, err := Edit(shipped, "listen 80;", "listen 1;"); err == nil {
		t.Errorf("a text that is not there: %q, want an error", got)
	}
}
