package prometheus

import (
	"encoding/json"
	"maps"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/promql/parser"
)

// What alerts and dashboard ask for must be there: a name that is misspelt is an alert
// that never fires.
func TestEachExpressionAsksForWhatTheServiceExports(t *testing.T) {
	exported := scrape(t)
	asked := make(map[string]bool)
	for where, text := range expressions(t) {
		expr, err := parser.ParseExpr(text)
		if err != nil {
			t.Errorf("%s: %v", where, err)
			continue
		}
		names := make(map[string]bool) // of the labels of all that the expression asks for
		parser.Inspect(expr, func(node parser.Node, _ []parser.Node) error {
			selector, ok := node.(*parser.VectorSelector)
			if !ok {
				return nil
			}
			has := exported[selector.Name]
			if has == nil {
				t.Errorf("%s: the service exports no %s", where, selector.Name)
				return nil
			}
			asked[selector.Name] = true
			maps.Copy(names, has)
			for _, m := range selector.LabelMatchers {
				if m.Name != labels.MetricName && !has[m.Name] {
					t.Errorf("%s: %s has no label %s", where, selector.Name, m.Name)
				}
			}
			return nil
		})
		parser.Inspect(expr, func(node parser.Node, _ []parser.Node) error {
			for _, name := range grouping(node) {
				if !names[name] {
					t.Errorf("%s: nothing has the label %s", where, name)
				}
			}
			return nil
		})
	}
	for name := range exported {
		ours := strings.HasPrefix(name, "authgear_") && !strings.HasSuffix(name, "_sum") && !strings.HasSuffix(name, "_count")
		if ours && !asked[name] {
			t.Errorf("neither an alert nor the dashboard shows %s", name)
		}
	}
}

func grouping(node parser.Node) []string {
	switch n := node.(type) {
	case *parser.AggregateExpr:
		return n.Grouping
	case *parser.BinaryExpr:
		if n.VectorMatching != nil {
			return n.VectorMatching.MatchingLabels
		}
	}
	return nil
}

// expressions are those of the alerts, and of the dashboard with its variables filled in.
// :: where → expression
func expressions(t *testing.T) map[string]string {
	t.Helper()
	all := make(map[string]string)
	for _, r := range rules(t) {
		all[r.Alert] = r.Expr
	}
	file, err := os.ReadFile(deploy + "grafana/authgear-forward-auth.json")
	if err != nil {
		t.Fatal(err)
	}
	var board struct {
		Panels []struct {
			Title   string
			Targets []struct{ RefID, Expr string }
			GridPos struct{ Y, H int }
		}
		Templating struct {
			List []struct{ Name, Definition string }
		}
		Annotations struct{ List []struct{ Name, Expr string } }
	}
	if err := json.Unmarshal(file, &board); err != nil {
		t.Fatal(err)
	}
	fill := strings.NewReplacer("$__rate_interval", "5m", "$instance", ".*").Replace
	for _, p := range board.Panels {
		if p.GridPos.Y+p.GridPos.H > 24 {
			t.Errorf("the panel %q is below the first screen", p.Title)
		}
		for _, target := range p.Targets {
			all["the panel "+p.Title+" "+target.RefID] = fill(target.Expr)
		}
	}
	for _, a := range board.Annotations.List {
		all["the annotation "+a.Name] = fill(a.Expr)
	}
	labelValues := regexp.MustCompile(`^label_values\((\w+), (\w+)\)$`)
	for _, v := range board.Templating.List {
		if m := labelValues.FindStringSubmatch(v.Definition); m != nil {
			all["the variable "+v.Name] = "sum by (" + m[2] + ") (" + m[1] + ")"
		}
	}
	return all
}

// scrape runs the service and returns what it exports, as Prometheus stores it. :: metric →
// the labels that it has
func scrape(t *testing.T) map[string]map[string]bool {
	t.Helper()
	program := filepath.Join(t.TempDir(), "authgear-forward-auth")
	build := exec.Command("go", "build", "-o", program, ".")
	build.Dir = "../.."
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("build: %v\n%s", err, out)
	}
	addr, admin := freeAddr(t, "127.0.0.1:0"), freeAddr(t, "127.0.0.2:0") // which can't be the same
	cmd := exec.Command(program)
	cmd.Env = append(os.Environ(), "AUTHGEAR_ENDPOINT=http://127.0.0.1:1", "AUTHGEAR_WEBHOOK_SECRET=0123456789abcdef",
		"AUTHGEAR_REDIS_URL=redis://127.0.0.1:1", "AUTHGEAR_FLEET_SECRET=0123456789abcdef0123456789abcdef", "AUTHGEAR_LISTEN="+addr, "AUTHGEAR_ADMIN_LISTEN="+admin)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		cmd.Process.Kill()
		cmd.Wait()
	})
	for end := time.Now().Add(30 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		if resp, err := http.Post("http://"+addr+"/hooks/authgear", "application/json", strings.NewReader("{}")); err == nil {
			resp.Body.Close() // an event, so that the metric has a series
			break
		} else if time.Now().After(end) {
			t.Fatal(err)
		}
	}
	resp, err := http.Get("http://" + admin + "/metrics")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	families, err := new(expfmt.TextParser).TextToMetricFamilies(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	exported := make(map[string]map[string]bool)
	for name, family := range families {
		has := map[string]bool{model.InstanceLabel: true, model.JobLabel: true}
		for _, l := range family.GetMetric()[0].GetLabel() {
			has[l.GetName()] = true
		}
		exported[name] = has
		if family.GetType() == dto.MetricType_HISTOGRAM {
			delete(exported, name)
			exported[name+"_sum"], exported[name+"_count"] = has, has
			exported[name+"_bucket"] = maps.Clone(has)
			exported[name+"_bucket"][model.BucketLabel] = true
		}
	}
	return exported
}

func freeAddr(t *testing.T, at string) string {
	t.Helper()
	l, err := net.Listen("tcp", at)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}
