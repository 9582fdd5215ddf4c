package proxytest

import (
	"net/url"
	"slices"
	"strings"
	"testing"

	"authgear-forward-auth/internal/doctor"
)

// echo takes the doctor's requests out of those that the applications get.
var echo doctor.Echo

// What we ship has none of the holes that the doctor knows.
func theDoctor(t *testing.T, st *Stand) {
	token := strings.TrimPrefix(st.ada()[1], "Bearer ")
	st.examine(t, "/", doctor.Options{})
	st.examine(t, "/doctor/a?b=c", doctor.Options{Token: token})
	st.examine(t, "/admin/", doctor.Options{Token: token})
	st.examine(t, "/public/", doctor.Options{Token: token, Optional: true})
}

// DoctorFinds checks that the doctor finds just these, by their titles, where a
// signed-in user passes.
func DoctorFinds(t *testing.T, st *Stand, titles ...string) {
	t.Helper()
	st.examine(t, "/doctor/", doctor.Options{Token: strings.TrimPrefix(st.bob()[1], "Bearer ")}, titles...)
}

func (st *Stand) examine(t *testing.T, path string, o doctor.Options, titles ...string) {
	t.Helper()
	var err error
	if o.URL, err = url.Parse(st.URL + path); err != nil {
		t.Fatal(err)
	}
	report, err := doctor.Examine(t.Context(), &echo, o)
	if err != nil {
		t.Fatalf("%s: %v", path, err)
	}
	var found []string
	for _, f := range report.Findings {
		found = append(found, f.Title)
	}
	notMade := len(report.NotMade) > 0 && o.Token != "" && !o.Optional && len(titles) == 0
	if !slices.Equal(found, titles) || notMade {
		var text strings.Builder
		report.Write(&text)
		t.Errorf("%s: the doctor finds %q, want %q\n%s", path, found, titles, &text)
	}
}
