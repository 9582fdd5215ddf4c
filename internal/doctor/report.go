package doctor

import (
	"cmp"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"slices"
	"strings"

	"authgear-forward-auth/internal/prose"
)

// A Report is what an examination found. No credential is in it.
type Report struct {
	Proxy    string    `json:"proxy,omitempty"` // if it is known
	Findings []Finding `json:"findings"`        // holes
	Remarks  []Finding `json:"remarks"`         // good to know; they do not count
	Made     []string  `json:"made"`            // the checks
	NotMade  []string  `json:"not_made"`        // each with what it lacked
}

// A Finding is one problem, however many requests showed it.
type Finding struct {
	Check   string   `json:"check"`
	Title   string   `json:"title"`
	Arrived []string `json:"arrived"` // what was sent, and what came of it
	Why     string   `json:"why"`

	cure map[string]string
}

// Cures returns what to change: by proxy, or that of one proxy alone.
func (f Finding) Cures(proxy string) (lines []string) {
	general := f.cure[""]
	if proxy != "" {
		if line := cmp.Or(f.cure[proxy], general); line != "" {
			lines = append(lines, line)
		}
		return lines
	}
	for _, name := range slices.Sorted(maps.Keys(f.cure)) {
		if name != "" {
			lines = append(lines, fmt.Sprintf("%-8s %s", name, f.cure[name]))
		}
	}
	if general != "" {
		lines = append(lines, general)
	}
	return lines
}

// Write writes the report as text of some 90 columns. Lines to copy stay whole.
func (r *Report) Write(w io.Writer) error {
	var b strings.Builder
	for i, f := range r.Findings {
		f.write(&b, fmt.Sprintf("FINDING %d", i+1), r.Proxy)
	}
	for _, f := range r.Remarks {
		f.write(&b, "Remark", r.Proxy)
	}
	if len(r.NotMade) > 0 {
		b.WriteString("Not made:\n")
		for _, line := range r.NotMade {
			wrap(&b, "  - ", line)
		}
		b.WriteString("\n")
	}
	b.WriteString(r.summary() + "\n")
	_, err := io.WriteString(w, b.String())
	return err
}

func (r *Report) summary() string {
	return fmt.Sprintf("%d of %d checks made: %s, %s.", len(r.Made), len(r.Made)+len(r.NotMade),
		prose.Count(len(r.Findings), "finding"), prose.Count(len(r.Remarks), "remark"))
}

func (f Finding) write(w *strings.Builder, label, proxy string) {
	const shown = 6
	fmt.Fprintf(w, "%s: %s\n", label, f.Title)
	for i, line := range f.Arrived {
		if i == shown {
			fmt.Fprintf(w, "  - and %d more\n", len(f.Arrived)-shown)
			break
		}
		wrap(w, "  - ", line)
	}
	wrap(w, "  ", f.Why)
	for _, line := range f.Cures(proxy) {
		line, comment, _ := strings.Cut(line, "   # ")
		if strings.HasSuffix(line, ".") { // it is a sentence, not a line to copy
			wrap(w, "  > ", line)
			continue
		}
		fmt.Fprintf(w, "  > %s\n", line)
		if comment != "" {
			wrap(w, "    # ", comment)
		}
	}
	fmt.Fprintln(w)
}

// wrap writes a paragraph; its first line begins with lead.
func wrap(w *strings.Builder, lead, text string) {
	prose.Wrap(w, lead, strings.NewReplacer("-", " ", ">", " ").Replace(lead), text)
}

// WriteJSON writes the report for programs.
func (r *Report) WriteJSON(w io.Writer) error {
	type finding struct {
		Finding
		Cure []string `json:"cure"`
	}
	with := func(list []Finding) []finding {
		all := []finding{}
		for _, f := range list {
			all = append(all, finding{f, f.Cures(r.Proxy)})
		}
		return all
	}
	e := json.NewEncoder(w)
	e.SetIndent("", "  ")
	e.SetEscapeHTML(false)
	return e.Encode(struct {
		Report
		Findings []finding `json:"findings"`
		Remarks  []finding `json:"remarks"`
	}{*r, with(r.Findings), with(r.Remarks)})
}

// howToSetUp says how the route comes to lead to the echo.
func (v *visit) howToSetUp(status int) string {
	return fmt.Sprintf(`nothing reaches the doctor through %s (the answer is %d %s).
While you examine it, let that route lead to the doctor in place of the application, and change nothing else:
%s
The doctor listens there unless -echo names another address, which the proxy must be able to reach.
If the application is another host's, or the proxy runs in a container: -echo :4182, and this machine's address.`,
		v.URL.Redacted(), status, http.StatusText(status), howToRoute(v.report.Proxy))
}

var routes = map[string]string{
	"nginx":   "upstream app { server 127.0.0.1:4182; }   # or: proxy_pass http://127.0.0.1:4182;",
	"traefik": "services: { app: { loadBalancer: { servers: [{ url: \"http://127.0.0.1:4182\" }] } } }",
	"caddy":   "reverse_proxy 127.0.0.1:4182",
	"haproxy": "server app 127.0.0.1:4182",
	"envoy":   "address: { socket_address: { address: 127.0.0.1, port_value: 4182 } }   # of the cluster app",
}

// howToRoute returns the line by which a proxy's route leads to the doctor; with "",
// those of all.
func howToRoute(proxy string) string {
	if line := routes[proxy]; line != "" {
		return "  " + line
	}
	var lines []string
	for _, name := range Proxies() {
		lines = append(lines, fmt.Sprintf("  %-8s %s", name, routes[name]))
	}
	return strings.Join(lines, "\n")
}

// Proxies are the names that Options.Proxy takes.
func Proxies() []string { return slices.Sorted(maps.Keys(routes)) }
