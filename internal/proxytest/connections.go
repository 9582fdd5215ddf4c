package proxytest

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"net/http"
	"sync"
	"sync/atomic"
	"testing"
)

func aPost(t *testing.T, st *Stand) {
	st.post(t, func(body []byte) io.Reader { return bytes.NewReader(body) }, "Expect", "100-continue")
}

func aChunkedPost(t *testing.T, st *Stand) {
	// net/http chunks a body whose length it cannot see.
	st.post(t, func(body []byte) io.Reader { return io.MultiReader(bytes.NewReader(body)) })
}

func (st *Stand) post(t *testing.T, reader func([]byte) io.Reader, fields ...string) {
	t.Helper()
	body := bytes.Repeat([]byte("0123456789abcdef"), 1<<16-1)
	resp, s := st.Do(t, "POST", "/", reader(body), append(fields, st.bob()...)...)
	if sum := sha256.Sum256(body); resp.StatusCode != 200 || s.SHA256 != hex.EncodeToString(sum[:]) {
		t.Errorf("status %d, the application saw %+v", resp.StatusCode, s)
	}
	if resp, _ := st.Do(t, "POST", "/", reader(body), fields...); resp.StatusCode != 401 {
		t.Errorf("without a credential: status %d, want 401", resp.StatusCode)
	}
}

func aWebSocket(t *testing.T, st *Stand) {
	upgrade := []string{"Connection", "Upgrade", "Upgrade", "websocket", "Sec-Websocket-Version", "13", "Sec-Websocket-Key", "AAAAAAAAAAAAAAAAAAAAAA=="}
	st.Expect(t, 401, "GET", "/", upgrade...)

	resp, err := st.ask("GET", "/", nil, append(upgrade, st.bob()...))
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	socket, ok := resp.Body.(io.ReadWriter)
	if resp.StatusCode != http.StatusSwitchingProtocols || !ok {
		t.Fatalf("status %d, want 101", resp.StatusCode)
	}
	got := make([]byte, len("ping"))
	io.WriteString(socket, "ping")
	if _, err := io.ReadFull(socket, got); err != nil || string(got) != "ping" {
		t.Errorf("the application brought back %q, %v", got, err)
	}
}

func http2Upgrade(t *testing.T, st *Stand) {
	fields := []string{"Connection", "Upgrade, HTTP2-Settings", "HTTP2-Settings", "AAMAAABkAARAAAAAAAIAAAAA",
		"Sec-Websocket-Version", "13", "Sec-Websocket-Key", "AAAAAAAAAAAAAAAAAAAAAA=="} // HAProxy refuses a WebSocket without a key
	for _, protocol := range []string{"h2c", "H2C", "websocket, h2c", "h2c, websocket"} {
		_, s := st.Expect(t, 200, "GET", "/public/", append([]string{"Upgrade", protocol}, fields...)...)
		if got := s.Header.Values("Upgrade"); len(got) > 0 {
			t.Errorf("%s: the application is asked for %q", protocol, got)
		}
	}
	for _, lines := range [][2]string{{"h2c", "websocket"}, {"websocket", "h2c"}} {
		resp, err := st.ask("GET", "/public/", nil, append([]string{"Upgrade", lines[0], "Upgrade", lines[1]}, fields...))
		if err != nil {
			t.Fatal(err)
		}
		switch resp.StatusCode {
		case http.StatusSwitchingProtocols: // the application makes a WebSocket, and nothing else
		case http.StatusOK:
			content, _ := io.ReadAll(resp.Body)
			if got := readSeen(t, content).Header.Values("Upgrade"); len(got) > 0 {
				t.Errorf("%q: the application is asked for %q", lines, got)
			}
		case http.StatusBadRequest:
		default:
			t.Errorf("%q: status %d", lines, resp.StatusCode)
		}
		resp.Body.Close()
	}
}

func serviceIsAway(t *testing.T, st *Stand) {
	bob := st.bob()
	st.Service.Stop()
	st.Expect(t, st.Away, "GET", "/", bob...)
	st.Expect(t, st.Away, "GET", "/public/")
	st.Service.Start()
	st.Expect(t, 200, "GET", "/", bob...)
}

// The connections that the proxy keeps to the service end with it.
func restart(t *testing.T, st *Stand) {
	bob := st.bob()
	many := func() func() bool {
		var n atomic.Int64
		return func() bool { return n.Add(1) <= 256 }
	}
	st.Crowd(t, many(), bob...)
	st.Service.Stop()
	st.Service.Start()
	st.Crowd(t, many(), bob...)
}

// Crowd asks from many sides at a time for as long as there is more to ask.
// Every answer must be 200.
func (st *Stand) Crowd(t testing.TB, more func() bool, fields ...string) {
	t.Helper()
	var all sync.WaitGroup
	for range 16 {
		all.Go(func() {
			for more() {
				if err := st.pass(fields); err != nil {
					t.Error(err)
				}
			}
		})
	}
	all.Wait()
}

func (st *Stand) pass(fields []string) error {
	resp, err := st.ask("GET", "/", nil, fields)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if _, err := io.Copy(io.Discard, resp.Body); err != nil {
		return err
	}
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("status %d, want 200", resp.StatusCode)
	}
	return nil
}
