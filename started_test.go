package main

import (
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// The commands by which a beginner signs in by hand do what OAuth asks for
// (RFC 7636 §4), and leave the token alone in its file.
func TestGettingStartedFetchesAToken(t *testing.T) {
	_, section, _ := strings.Cut(read(t, "docs/getting-started.md"), "\n## 4. ")
	section, _, _ = strings.Cut(section, "\n## 5. ")
	var script string
	for _, line := range regexp.MustCompile(`(?m)^    (.*)$`).FindAllStringSubmatch(section, -1) {
		script += strings.Replace(line[1], "code=…", "code=the-code", 1) + "\n"
	}
	var form url.Values
	authgear := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		r.ParseForm()
		form = r.PostForm
		if r.URL.Path != "/oauth2/token" {
			http.NotFound(w, r)
			return
		}
		fmt.Fprintln(w, `{"token_type":"Bearer","access_token":"eyJ.the-token.x","id_token":"eyJ.another.x","expires_in":1800}`)
	}))
	defer authgear.Close()
	dir := t.TempDir()
	sh := exec.Command("sh", "-euc", "client_id=the-client\n"+script)
	sh.Dir, sh.Env = dir, append(os.Environ(), "AUTHGEAR_ENDPOINT="+authgear.URL)
	out, err := sh.Output()
	if err != nil {
		t.Fatalf("%v\n%s", err, script)
	}
	token, err := os.ReadFile(filepath.Join(dir, "token.txt"))
	if err != nil || string(token) != "eyJ.the-token.x\n" {
		t.Errorf("token.txt: %q, %v", token, err)
	}
	first, _, _ := strings.Cut(string(out), "\n")
	page, err := url.Parse(first)
	if err != nil || page.Path != "/oauth2/authorize" {
		t.Fatalf("the first line is no address of the sign-in: %q", first)
	}
	sum := sha256.Sum256([]byte(form.Get("code_verifier")))
	expectValues(t, page.Query(), map[string]string{
		"client_id": "the-client", "response_type": "code", "scope": "openid", "redirect_uri": "http://localhost:3000/",
		"code_challenge": base64.RawURLEncoding.EncodeToString(sum[:]), "code_challenge_method": "S256",
	})
	expectValues(t, form, map[string]string{
		"client_id": "the-client", "grant_type": "authorization_code", "code": "the-code", "redirect_uri": "http://localhost:3000/",
	})
	if n := len(form.Get("code_verifier")); n < 43 || n > 128 {
		t.Errorf("a code_verifier of %d characters", n)
	}
}

func expectValues(t *testing.T, got url.Values, want map[string]string) {
	t.Helper()
	for name, value := range want {
		if got.Get(name) != value {
			t.Errorf("%s is %q, want %q", name, got.Get(name), value)
		}
	}
}
