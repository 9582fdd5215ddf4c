package explain

import (
	"fmt"
	"io"
	"strings"
)

// Print writes the report for a reader.
func (r Report) Print(w io.Writer) {
	for _, s := range r.Steps {
		fmt.Fprintf(w, "%-5s %-16s %s\n", s.Result, s.Name, s.Detail)
	}
	fmt.Fprintf(w, "\n%d %s (%s)\n%s\n", r.Status, strings.ReplaceAll(string(r.Reason), "_", " "), r.Reason, r.Next)
}
