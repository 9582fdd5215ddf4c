// Package traefik_test reads the shipped configuration as Traefik does.
package traefik_test

import (
	"os"
	"reflect"
	"strings"
	"testing"

	"github.com/traefik/paerser/file"
	"github.com/traefik/traefik/v3/pkg/config/dynamic"
	"github.com/traefik/traefik/v3/pkg/config/label"
)

const shipped = "../../traefik/dynamic.yml"

func TestLabelsSayWhatTheFileSays(t *testing.T) {
	var want dynamic.Configuration
	if err := file.Decode(shipped, &want); err != nil {
		t.Fatal(err)
	}
	var defined int
	for _, labels := range examples(t) {
		got, err := label.DecodeConfiguration(labels)
		if err != nil {
			t.Fatalf("%v: %v", labels, err)
		}
		for name, router := range got.HTTP.Routers {
			if len(router.Middlewares) == 0 || router.Rule == "" {
				t.Errorf("router %s is open to everybody, or has no rule: %+v", name, router)
			}
			for _, m := range router.Middlewares {
				if name, ok := strings.CutSuffix(m, "@file"); ok && want.HTTP.Middlewares[name] == nil {
					t.Errorf("there is no %s in the file", name)
				} else if !ok && got.HTTP.Middlewares[m] == nil {
					t.Errorf("no label defines %s", m)
				}
			}
		}
		if rest := got.HTTP.Routers["shop"]; rest == nil || rest.Priority != 0 { // any other PathPrefix(`/`) would win
			t.Errorf("by label the rest is %+v", rest)
		}
		for _, name := range []string{"admin", "ambiguous"} { // what asks for more than the rest
			router, w := got.HTTP.Routers["shop-"+name], want.HTTP.Routers[name] // a name is one application's in all of Traefik
			if router == nil || !strings.Contains(router.Rule, w.Rule) || router.Priority != w.Priority {
				t.Errorf("by label router shop-%s is %+v, in the file %+v", name, router, w)
			}
		}
		for name, m := range got.HTTP.Middlewares {
			defined++
			if w := want.HTTP.Middlewares[name]; !reflect.DeepEqual(m, w) {
				t.Errorf("by label %s is %+v, in the file %+v", name, m, w)
			}
		}
	}
	if defined != 2 {
		t.Errorf("labels define %d middlewares, want 2", defined)
	}
}

// examples returns the blocks of labels in the comment at the end of the file.
func examples(t *testing.T) (list []map[string]string) {
	text, err := os.ReadFile(shipped)
	if err != nil {
		t.Fatal(err)
	}
	_, comment, _ := strings.Cut(string(text), "# For containers:")
	for _, block := range strings.Split(comment, "#   labels:\n")[1:] {
		labels := map[string]string{}
		for line := range strings.Lines(block) {
			name, value, ok := strings.Cut(strings.TrimSpace(strings.TrimPrefix(line, "#")), ": ")
			if !ok || !strings.HasPrefix(name, "traefik.") {
				break
			}
			labels[name] = strings.Trim(value, `"`)
		}
		list = append(list, labels)
	}
	return list
}
