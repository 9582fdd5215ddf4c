package caddy_test

import (
	"io"
	"net/http"
	"net/http/httptest"
	"sync/atomic"
	"testing"
	"time"

	"authgear-forward-auth/internal/authgeartest"
	"authgear-forward-auth/internal/proxytest"
)

// Over HTTP/2, what a client sends behind CONNECT would reach the application as it is: a
// request of which nobody was asked.
func TestNothingBehindCONNECTIsARequest(t *testing.T) {
	var arrived atomic.Int64
	app := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { arrived.Add(1) }))
	defer app.Close()
	st := newStand(t, proxytest.FreeAddr(t), "127.0.0.1:8000", app.Listener.Addr().String(), "\tservers {\n", "\tservers {\n\t\tprotocols h1 h2c\n")
	bob := st.User(authgeartest.User{ID: "bob"})
	over2 := &http.Transport{Protocols: new(http.Protocols)}
	over2.Protocols.SetUnencryptedHTTP2(true)
	for range 5 {
		body, more := io.Pipe()
		req, err := http.NewRequestWithContext(t.Context(), "CONNECT", st.URL, body)
		if err != nil {
			t.Fatal(err)
		}
		req.Host = "app.example:80"
		req.Header.Set(bob[0], bob[1])
		go func() {
			io.WriteString(more, "GET /admin/x HTTP/1.1\r\nHost: h\r\nX-Authgear-Session-Valid: true\r\nX-Authgear-User-Id: ada\r\n\r\n")
			time.Sleep(200 * time.Millisecond)
			more.Close()
		}()
		resp, err := over2.RoundTrip(req)
		if err != nil {
			t.Fatal(err)
		}
		if resp.Body.Close(); resp.StatusCode != http.StatusMethodNotAllowed {
			t.Errorf("status %d, want 405", resp.StatusCode)
		}
	}
	if n := arrived.Load(); n > 0 {
		t.Errorf("%d requests arrived", n)
	}
}
