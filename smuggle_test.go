package main

import (
	"fmt"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"authgear-forward-auth/internal/authgeartest"
	"authgear-forward-auth/internal/proxytest"
)

// Whatever stands behind a body, or in it, is nobody's request: a proxy puts the question
// about somebody else on the same connection.
func TestNothingBehindABodyIsARequest(t *testing.T) {
	t.Parallel()
	s, _ := start(t, "AUTHGEAR_WEBHOOK_SECRET=a secret of some length")
	const smuggled = "GET /nginx?optional HTTP/1.1\r\nHost: auth\r\n\r\n"
	const form = "--b\r\nContent-Disposition: form-data; name=\"a\"\r\n\r\nx\r\n--b--\r\n"
	length := func(body string) string { return fmt.Sprintf("Content-Length: %d\r\n\r\n%s", len(body), body) }
	for name, rest := range map[string]string{
		"behind the body":                 length("{}") + smuggled,
		"behind the end of a form":        "Content-Type: multipart/form-data; boundary=b\r\n" + length(form+strings.Repeat("\r\n", 8000)+smuggled),
		"in a form that has no end":       "Content-Type: multipart/form-data; boundary=b\r\n" + length("--b\r\n\r\n"+strings.Repeat("\r\n", 8000)+smuggled),
		"behind the last chunk":           "Transfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n" + smuggled,
		"behind no chunk":                 "Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n" + smuggled,
		"behind a body that is asked for": "Expect: 100-continue\r\n" + length("{}") + smuggled,
		"in a body that is too long":      length(strings.Repeat(smuggled, 1<<16)),
	} {
		for at, path := range map[string]string{s.Addr: "/hooks/authgear", s.Admin: "/explain"} {
			t.Run(name+" "+path, func(t *testing.T) {
				c, err := net.Dial("tcp", at)
				if err != nil {
					t.Fatal(err)
				}
				defer c.Close()
				c.SetDeadline(time.Now().Add(10 * time.Second))
				go fmt.Fprintf(c, "POST %s HTTP/1.1\r\nHost: %s\r\n%s", path, at, rest)
				all, err := io.ReadAll(c)
				answers := strings.ReplaceAll(string(all), "HTTP/1.1 100 Continue\r\n\r\n", "")
				if n := strings.Count(answers, "HTTP/1.1 "); n != 1 && len(rest) < 1<<20 {
					t.Errorf("%d answers to one request: %q", n, all)
				}
				if strings.Contains(answers, "X-Authgear-Session-Valid") {
					t.Errorf("what was smuggled is answered: %q", all)
				}
				if err != nil && len(rest) < 1<<20 {
					t.Errorf("the connection has not ended: %v", err)
				}
			})
		}
	}
}

// A proxy may hand on what a client wrote as the target, where its configuration names the
// path of the question alone. None of it is a question then.
func TestATargetOfAnotherFormIsNoQuestion(t *testing.T) {
	t.Parallel()
	s, authgear := start(t)
	token := authgear.JWT(authgear.AddUser(authgeartest.User{ID: "ada"}))
	for _, target := range []string{
		"http://h/nginx", "http://h/envoy/x", "x:http://h/envoy/../admin/", "x:envoy/", "x:/nginx", "//h/nginx", "h:80", "*", "/./nginx", "/x/../nginx", "/nginx/", "/%6eginx", "/Nginx", "nginx",
	} {
		resp, _ := proxytest.Raw(t, s.Addr, "GET "+target+" HTTP/1.1\r\nHost: auth\r\nConnection: close\r\nAuthorization: Bearer "+token+"\r\n\r\n")
		if resp.StatusCode != 404 && resp.StatusCode != 400 {
			t.Errorf("%s: status %d", target, resp.StatusCode)
		}
	}
}
