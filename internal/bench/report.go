//go:build linux

package main

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime"
	"runtime/debug"
	"strings"
	"time"
)

// A line of the table.
type line struct {
	work, measure  string
	floor, subject string // what was measured of each, with its unit
	ratio          *spread
	target         target
	value          float64 // what the target is about, if there is no ratio
}

// A target is a limit from above or from below. The zero target is none.
type target struct {
	limit   float64
	atLeast bool
	unit    string
}

func atLeast(limit float64) target             { return target{limit: limit, atLeast: true} }
func atMost(limit float64, unit string) target { return target{limit: limit, unit: unit} }

func (t target) String() string {
	switch {
	case t.limit == 0 && t.unit == "" && !t.atLeast:
		return ""
	case t.atLeast:
		return fmt.Sprintf("≥ %.2f", t.limit)
	case t.unit == "":
		return fmt.Sprintf("≤ %.2f", t.limit)
	}
	return fmt.Sprintf("≤ %g %s", t.limit, t.unit)
}

// verdict tells whether the target was met, as far as there is one.
func (l line) verdict() string {
	v := l.value
	if l.ratio != nil {
		v = l.ratio.median
	}
	switch t := l.target; {
	case t.String() == "":
		return ""
	case t.atLeast && v >= t.limit, !t.atLeast && v <= t.limit:
		return "met"
	}
	return "missed"
}

func printLines(w io.Writer, lines []line) {
	for _, l := range lines {
		ratio := ""
		if l.ratio != nil {
			ratio = fmt.Sprintf("%.2f (%.2f–%.2f)", l.ratio.median, l.ratio.low, l.ratio.high)
		}
		fmt.Fprintf(w, "| %s |\n", strings.Join([]string{l.work, l.measure, l.floor, l.subject, ratio, l.target.String(), l.verdict()}, " | "))
	}
}

// report is the table, with where and how it was measured.
func (b *bench) report(lines []line) string {
	var out strings.Builder
	fmt.Fprintf(&out, "Machine: %s. Versions: %s.\n", machine(), versions())
	fmt.Fprintf(&out, "%d rounds of %s each for a comparison, %d of %s where it needs time or a new process; ratios are medians, with the quartiles behind.\n\n",
		b.short.rounds, b.short.each, b.long.rounds, b.long.each)
	fmt.Fprintln(&out, "| Work | Measure | Floor | Service | Ratio | Target | |")
	fmt.Fprintln(&out, "|---|---|---|---|---|---|---|")
	printLines(&out, lines)
	return out.String()
}

func machine() string {
	return fmt.Sprintf("%d cores (%s), %s", runtime.NumCPU(), fileField("/proc/cpuinfo", "model name"), firstLine("uname", "-sr"))
}

func versions() string {
	list := []string{runtime.Version()}
	if info, ok := debug.ReadBuildInfo(); ok {
		for _, dep := range info.Deps {
			if strings.Contains(dep.Path, "fasthttp") || strings.Contains(dep.Path, "ristretto") {
				list = append(list, dep.Path+" "+dep.Version)
			}
		}
	}
	return strings.Join(append(list, firstLine("nginx", "-v"), "revision "+firstLine("git", "describe", "--tags", "--always", "--dirty")), ", ")
}

// fileField is the value of the first line with that name.
func fileField(file, name string) string {
	text, err := os.ReadFile(file)
	if err != nil {
		return "unknown"
	}
	for line := range strings.Lines(string(text)) {
		if n, value, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(n) == name {
			return strings.TrimSpace(value)
		}
	}
	return "unknown"
}

func firstLine(program string, args ...string) string {
	out, err := exec.Command(program, args...).CombinedOutput()
	if err != nil {
		return program + " unknown"
	}
	first, _, _ := bytes.Cut(out, []byte("\n"))
	return string(bytes.TrimSpace(first))
}

// How figures are told.

// rates are the answers in a second, by the CPU time of the server and by the clock,
// with what an answer costs on either core.
func rates(samples []sample) string {
	return fmt.Sprintf("%s/s (%s/s by the clock; %s, load %s)", thousands(typical(samples, busy)), thousands(typical(samples, perSecond)),
		micros(typical(samples, cost)), micros(typical(samples, loadCost)))
}

func costs(samples []sample) string { return micros(typical(samples, cost)) }

func latencies(samples []sample) string {
	return fmt.Sprintf("%s (p50 %s; at worst %s) at %s/s", micros(typical(samples, p99)), micros(typical(samples, p50)), micros(worst(samples, pooled)),
		thousands(typical(samples, perSecond)))
}

func micros(nanoseconds float64) string { return fmt.Sprintf("%.1f µs", nanoseconds/1e3) }
func millis(d time.Duration) string     { return fmt.Sprintf("%.1f ms", float64(d)/1e6) }
func megabytes(bytes float64) string    { return fmt.Sprintf("%.1f MB", bytes/1e6) }

func thousands(v float64) string {
	text := fmt.Sprintf("%.0f", v)
	for i := len(text) - 3; i > 0; i -= 3 {
		text = text[:i] + "," + text[i:]
	}
	return text
}
