package explain

import (
	"bytes"
	"errors"
	"strings"
)

// Fields are the lines of a request that hold credentials.
type Fields struct{ authorization, cookie [][]byte }

var errSeveralLines = errors.New("more than one line: then each must be an Authorization or a Cookie field, with its name")

// Read reads what an operator pastes: a token alone, or the lines Authorization and
// Cookie of a request. The error tells nothing of the text.
func Read(text []byte) (f Fields, err error) {
	var bare [][]byte
	for line := range bytes.Lines(text) {
		line = bytes.TrimSpace(line)
		name, value, _ := bytes.Cut(line, []byte(":"))
		switch strings.ToLower(string(name)) {
		case "":
		case "authorization":
			f.authorization = append(f.authorization, bytes.TrimSpace(value))
		case "cookie":
			f.cookie = append(f.cookie, bytes.TrimSpace(value))
		default:
			bare = append(bare, line)
		}
	}
	if len(bare) > 1 || len(bare) == 1 && len(f.authorization)+len(f.cookie) > 0 {
		return Fields{}, errSeveralLines
	}
	for _, token := range bare {
		if scheme, _, ok := bytes.Cut(token, []byte(" ")); !ok || !bytes.EqualFold(scheme, []byte("Bearer")) {
			token = append([]byte("Bearer "), token...)
		}
		f.authorization = append(f.authorization, token)
	}
	return f, nil
}
