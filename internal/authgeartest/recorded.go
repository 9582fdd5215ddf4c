package authgeartest

import (
	_ "embed"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"sync"
)

//go:embed testdata/recorded.json
var recordedJSON []byte

//go:embed testdata/golden.json
var goldenJSON []byte

// Recorded is one request to the real Authgear and its answer. The fields of
// both are in order, Host among those of the request. Response fields the
// recording left out (Content-Length, Date, nosniff and the like) are absent,
// and Body is cut to 400 characters except in section "metadata". At is the
// time of the recording in Unix seconds.
type Recorded struct {
	Section, Name, How string
	Method, Path       string
	Header             [][2]string
	Status             int
	ResponseHeader     [][2]string
	Body               string
	At                 int64
}

var recordedFile = sync.OnceValue(func() (f struct {
	Entries []Recorded
}) {
	if err := json.Unmarshal(recordedJSON, &f); err != nil {
		panic(fmt.Sprintf("authgeartest: recordings: %v", err))
	}
	return f
})

// Recordings is the requests of sections resolver, host_and_proto_matrix,
// db_config_source, backend_outage, metadata and extra.
func Recordings() []Recorded { return slices.Clone(recordedFile().Entries) }

// Golden is golden.json as it is: the contract's symbolic cases.
func Golden() []byte { return slices.Clone(goldenJSON) }

// RecordedKeys is the recorded key sets of http://localhost:23000 and of
// https://auth.lab2.test, which has two keys.
func RecordedKeys() (lab, lab2 []byte) {
	for _, e := range recordedFile().Entries {
		switch {
		case e.Section == "metadata" && e.Name == "jwks":
			lab = []byte(e.Body)
		case e.Section == "extra" && e.Name == "jwks_two_keys":
			lab2 = []byte(e.Body)
		}
	}
	return lab, lab2
}

// RequestHeader is the first value of a request field, empty if there is none.
func (e Recorded) RequestHeader(name string) string { return first(e.Header, name) }

// AnswerHeader is the first value of a response field, empty if there is none.
func (e Recorded) AnswerHeader(name string) string { return first(e.ResponseHeader, name) }

func first(fields [][2]string, name string) string {
	for _, f := range fields {
		if strings.EqualFold(f[0], name) {
			return f[1]
		}
	}
	return ""
}
