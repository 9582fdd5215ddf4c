// Package prose writes what commands report for people to read.
package prose

import (
	"fmt"
	"strings"
)

const width = 90

// Wrap writes a paragraph. Its first line begins with lead, the others with then.
func Wrap(w *strings.Builder, lead, then, text string) {
	line := lead
	for _, word := range strings.Fields(text) {
		if len(line)+len(word) >= width {
			fmt.Fprintln(w, strings.TrimRight(line, " "))
			line = then
		}
		line += word + " "
	}
	fmt.Fprintln(w, strings.TrimRight(line, " "))
}

// Count returns how many there are, in words: "no findings", "1 finding", "2 findings".
func Count(n int, what string) string {
	switch n {
	case 0:
		return "no " + what + "s"
	case 1:
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}
