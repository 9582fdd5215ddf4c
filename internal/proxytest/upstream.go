package proxytest

import (
	"compress/gzip"
	"crypto/sha1"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"

	"authgear-forward-auth/internal/doctor"
)

// Seen is what the application was handed.
type Seen struct {
	Method, URI string
	SHA256      string // of the body
	Header      http.Header
	Trailer     http.Header
}

// Upstream runs an application until the test ends and returns its address. It
// tells what it was handed. /broken and /basic are its own errors, /own has fields of
// its own, /gzip is compressed, a WebSocket brings back what was sent, and gRPC
// ends with its trailer.
func Upstream(t testing.TB) string {
	s := httptest.NewUnstartedServer(http.HandlerFunc(application))
	s.Config.Protocols = new(http.Protocols)
	s.Config.Protocols.SetHTTP1(true)
	s.Config.Protocols.SetUnencryptedHTTP2(true) // as gRPC is spoken
	s.Start()
	t.Cleanup(s.Close)
	return s.Listener.Addr().String()
}

func application(w http.ResponseWriter, r *http.Request) {
	switch {
	case r.Header.Get(doctor.NonceField) != "":
		echo.ServeHTTP(w, r)
	case r.URL.Path == "/broken":
		http.Error(w, "the application's own error", http.StatusInternalServerError)
	case r.URL.Path == "/basic":
		w.Header().Set("WWW-Authenticate", `Basic realm="app"`)
		http.Error(w, "the application's own sign-in", http.StatusUnauthorized)
	case strings.HasSuffix(r.URL.Path, "/own"):
		w.Header().Set("Cache-Control", "max-age=60")
		w.Header().Add("Set-Cookie", "a=1; Path=/")
		w.Header().Add("Set-Cookie", "b=2; Path=/")
		tell(w, r)
	case r.Header.Get("Content-Type") == "application/grpc":
		w.Header().Set("Trailer", "Grpc-Status")
		w.Header().Set("Content-Type", "application/grpc")
		tell(w, r)
		w.Header().Set("Grpc-Status", "0")
	case slices.Equal(r.Header.Values("Upgrade"), []string{"websocket"}):
		bringBack(w, r)
	case r.URL.Path == "/gzip" && strings.Contains(r.Header.Get("Accept-Encoding"), "gzip"):
		w.Header().Set("Content-Encoding", "gzip")
		z := gzip.NewWriter(w)
		defer z.Close()
		tell(z, r)
	default:
		tell(w, r)
	}
}

func tell(w io.Writer, r *http.Request) {
	hash := sha256.New()
	io.Copy(hash, r.Body)
	json.NewEncoder(w).Encode(Seen{r.Method, r.RequestURI, hex.EncodeToString(hash.Sum(nil)), r.Header, r.Trailer})
}

func bringBack(w http.ResponseWriter, r *http.Request) {
	c, rw, err := http.NewResponseController(w).Hijack()
	if err != nil {
		return
	}
	defer c.Close()
	// HAProxy looks whether the key is answered. RFC 6455 §4.2.2.
	key := sha1.Sum([]byte(r.Header.Get("Sec-Websocket-Key") + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"))
	io.WriteString(c, "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-Websocket-Accept: "+
		base64.StdEncoding.EncodeToString(key[:])+"\r\n\r\n")
	io.Copy(c, rw)
}
