package lab

import (
	"bytes"
	"fmt"
	"os"
	"strings"
)

// WriteInto writes a report into a document, between the marks of that name.
func WriteInto(file, name, report string) error {
	begin, end := "<!-- "+name+": begin -->\n", "<!-- "+name+": end -->\n"
	text, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	before, rest, ok := bytes.Cut(text, []byte(begin))
	_, after, ok2 := bytes.Cut(rest, []byte(end))
	if !ok || !ok2 {
		return fmt.Errorf("%s has no lines %q and %q", file, strings.TrimSpace(begin), strings.TrimSpace(end))
	}
	return os.WriteFile(file, bytes.Join([][]byte{before, []byte(begin), []byte(report), []byte(end), after}, nil), 0o644)
}
