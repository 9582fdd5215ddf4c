package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"authgear-forward-auth/internal/proxytest"
)

// The units of deploy/systemd, and what becomes of their names when they are installed.
// :: file → place
var units = map[string]string{
	"authgear-forward-auth.service":      "",
	"authgear-forward-auth.socket":       "",
	"authgear-forward-auth-admin.socket": "",
	"unix.conf":                          "authgear-forward-auth.socket.d",
	"webhook.conf":                       "authgear-forward-auth.service.d",
	"tls.conf":                           "authgear-forward-auth.service.d",
	"fleet.conf":                         "authgear-forward-auth.service.d",
}

// install copies the units as docs/running.md says; the program is the one that is built
// here. oldnew are edits.
func install(t *testing.T, dropIns bool, oldnew ...string) (dir string) {
	t.Helper()
	dir = t.TempDir()
	oldnew = append(oldnew, "/usr/local/bin/authgear-forward-auth", proxytest.Binary(t))
	for file, place := range units {
		if place != "" && !dropIns {
			continue
		}
		if err := os.MkdirAll(filepath.Join(dir, place), 0o755); err != nil {
			t.Fatal(err)
		}
		text := strings.NewReplacer(oldnew...).Replace(read(t, filepath.Join("deploy/systemd", file)))
		if err := os.WriteFile(filepath.Join(dir, place, file), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// verify returns what systemd has to say of the units.
func verify(t *testing.T, dir string) string {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(dir, "*.*et")) // the sockets, …
	if err != nil {
		t.Fatal(err)
	}
	files = append(files, filepath.Join(dir, "authgear-forward-auth.service"))
	out, err := exec.Command(tool(t, "systemd-analyze"), append([]string{"verify", "--man=no"}, files...)...).CombinedOutput()
	if err != nil {
		return string(out) + err.Error()
	}
	return string(out)
}

func TestSystemdReadsTheUnits(t *testing.T) {
	for _, dropIns := range []bool{false, true} {
		if said := verify(t, install(t, dropIns)); said != "" {
			t.Errorf("drop-ins %v: %s", dropIns, said)
		}
	}
	for _, tt := range []struct{ name, old, new string }{
		{"a slip in the service", "ProtectHome=yes", "ProtectHomes=yes"},
		{"a slip in a socket", "NoDelay=yes", "NoDelay=often"},
		{"a slip in a drop-in of the service", "LoadCredential=tls-cert:", "LoadCredential:tls-cert="},
		{"a slip in the drop-in of the socket", "SocketMode=0660", "SocketMode=rw"},
	} {
		if verify(t, install(t, true, tt.old, tt.new)) == "" {
			t.Errorf("%s is not seen", tt.name)
		}
	}
}

// 0 is the best and 10 the worst; what remains is that it speaks to the network.
func TestTheServiceIsConfined(t *testing.T) {
	dir := install(t, true)
	out, err := exec.Command(tool(t, "systemd-analyze"), "security", "--offline=true", "--threshold=12", "--no-pager", filepath.Join(dir, "authgear-forward-auth.service")).CombinedOutput()
	if err != nil {
		t.Errorf("%v: %s", err, out)
	}
}

// Every user of the machine may use the socket itself; whoever does is believed.
func TestTheDirectoryOfTheSocketsLetsInOneGroup(t *testing.T) {
	if unit := read(t, "deploy/systemd/authgear-forward-auth.service"); !strings.Contains(unit, "\nRuntimeDirectory=authgear-forward-auth\nRuntimeDirectoryMode=0750\n") {
		t.Error("the unit lets every user in")
	}
	if said := verify(t, install(t, false, "DynamicUser=yes", "DynamicUser=yes\nGroup=www-data")); said != "" {
		t.Errorf("with the proxy's group: %s", said)
	}
}

func TestEveryUnitIsTried(t *testing.T) {
	entries, err := os.ReadDir("deploy/systemd")
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if _, ok := units[e.Name()]; !ok {
			t.Errorf("%s is not in units", e.Name())
		}
	}
}
