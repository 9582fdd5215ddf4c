package check_test

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"authgear-forward-auth/internal/authgeartest"
	"authgear-forward-auth/internal/check"
	"authgear-forward-auth/internal/proxytest"
)

// redis runs one and returns its URL.
func redis(t *testing.T, args ...string) string {
	addr, _ := proxytest.Redis(t, args...)
	return "redis://" + addr
}

// between puts something before a Redis that changes what it is asked and what it
// answers, and that takes its time.
func between(t *testing.T, url string, wait time.Duration, ask, answer func([]byte) []byte) string {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			client, err := l.Accept()
			if err != nil {
				return
			}
			server, err := net.Dial("tcp", strings.TrimPrefix(url, "redis://"))
			if err != nil {
				client.Close()
				return
			}
			copyAll := func(to, from net.Conn, change func([]byte) []byte) {
				defer to.Close()
				buffer := make([]byte, 64<<10)
				for {
					n, err := from.Read(buffer)
					if err != nil {
						return
					}
					if _, err := to.Write(change(buffer[:n])); err != nil {
						return
					}
				}
			}
			go copyAll(server, client, func(b []byte) []byte { time.Sleep(wait); return ask(b) })
			go copyAll(client, server, answer)
		}
	}()
	return "redis://" + l.Addr().String()
}

func same(b []byte) []byte { return b }

var answerToTime = regexp.MustCompile(`\*2\r\n\$10\r\n(\d{10})\r\n`)

// clockAhead changes the answers to TIME.
func clockAhead(by time.Duration) func([]byte) []byte {
	return func(b []byte) []byte {
		return answerToTime.ReplaceAllFunc(b, func(m []byte) []byte {
			seconds, _ := strconv.ParseInt(string(answerToTime.FindSubmatch(m)[1]), 10, 64)
			return []byte("*2\r\n$10\r\n" + strconv.FormatInt(seconds+int64(by.Seconds()), 10) + "\r\n")
		})
	}
}

// noMinid makes of a command what it is for a Redis before 6.2, which takes the word for
// an ID.
func noMinid(b []byte) []byte { return bytes.ReplaceAll(b, []byte("MINID"), []byte("MINIX")) }

// tlsRedis runs one that speaks TLS alone, and returns its host:port.
func tlsRedis(t *testing.T, c tls.Certificate, args ...string) string {
	dir := t.TempDir()
	key, err := x509.MarshalPKCS8PrivateKey(c.PrivateKey)
	if err != nil {
		t.Fatal(err)
	}
	for name, block := range map[string]*pem.Block{"crt": {Type: "CERTIFICATE", Bytes: c.Certificate[0]}, "key": {Type: "PRIVATE KEY", Bytes: key}} {
		if err := os.WriteFile(filepath.Join(dir, name), pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	port := proxytest.FreeAddr(t)[len("127.0.0.1:"):]
	proxytest.Redis(t, append([]string{"--tls-port", port, "--tls-cert-file", dir + "/crt", "--tls-key-file", dir + "/key", "--tls-ca-cert-file", dir + "/crt", "--tls-auth-clients", "no"}, args...)...)
	return "localhost:" + port
}

const password = "canary-of-redis"

// user is one who may only do so.
func user(t *testing.T, rules ...string) string {
	return strings.Replace(redis(t, append([]string{"--user", "fleet", "on", ">" + password}, rules...)...), "//", "//fleet:"+password+"@", 1)
}

func TestARedisForAFleet(t *testing.T) {
	for _, tt := range []struct {
		name, url string
		found     string
	}{
		{"a plain one", redis(t), "version 7"},
		{"a password", strings.Replace(redis(t, "--requirepass", password), "//", "//:"+password+"@", 1), "is allowed"},
		{"a user with few rights", user(t, "~afa:*", "+getrange", "+set", "+del", "+xadd", "+xread", "+time"), "is allowed"},
		{"TLS", "rediss://" + tlsRedis(t, certificate(&trusted, unchanged)), "is allowed"},
		{"policy volatile-ttl", redis(t, "--maxmemory-policy", "volatile-ttl"), "is allowed"},
		{"a clock a little off", between(t, redis(t), 0, same, clockAhead(0)), "its clock agrees"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := newStand(t, authgeartest.Options{})
			s.RedisURL = tt.url
			report := s.examine(t)
			if odd := remarkable(report); len(odd) > 0 {
				t.Errorf("%+v", odd)
			}
			if i := stepOf(report, "redis"); report.Steps[i].Status != check.Passed || !strings.Contains(report.Steps[i].Found, tt.found) {
				t.Errorf("%+v", report.Steps[i])
			}
		})
	}
}

func stepOf(r *check.Report, name string) int {
	for i, s := range r.Steps {
		if s.Name == name {
			return i
		}
	}
	return 0
}

func TestAProbeLeavesNothingInRedis(t *testing.T) {
	s := newStand(t, authgeartest.Options{})
	s.RedisURL = redis(t)
	s.examine(t)
	c, err := net.Dial("tcp", strings.TrimPrefix(s.RedisURL, "redis://"))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	c.Write([]byte("DBSIZE\r\n"))
	answer := make([]byte, 64)
	if n, err := c.Read(answer); err != nil || string(answer[:n]) != ":0\r\n" {
		t.Errorf("DBSIZE: %q, %v", answer[:n], err)
	}
}

func TestFaultsOfRedis(t *testing.T) {
	full := func(rules string) []string { return strings.Fields("~afa:* " + rules) }
	for _, tt := range []struct {
		name, url string
		found     string
		cure      string // of a failure, or behind "warn " of a warning
	}{
		{"no URL", "localhost:6379", "AUTHGEAR_REDIS_URL", "must be like redis://"},
		{"nobody listens", "redis://" + proxytest.FreeAddr(t), "connection refused", "does Redis listen there"},
		{"a host that nobody knows", "redis://nowhere.invalid:6379", "nowhere.invalid", "is the host of AUTHGEAR_REDIS_URL right?"},
		{"no password", redis(t, "--requirepass", password), "connect: ", "it wants a password"},
		{"another password", strings.Replace(redis(t, "--requirepass", password), "//", "//:canary-wrong@", 1), "WRONGPASS", "are user and password of AUTHGEAR_REDIS_URL right?"},
		{"a user without XREAD", user(t, full("+getrange +set +del +xadd +time")...), "XREAD: NOPERM", "ACL SETUSER"},
		{"a user without XADD", user(t, full("+getrange +set +del +xread +time")...), "XADD with MINID: NOPERM", "ACL SETUSER"},
		{"a user without TIME", user(t, full("+getrange +set +del +xread +xadd")...), "TIME: NOPERM", "ACL SETUSER"},
		{"a user for other keys", user(t, "~other:*", "+@all"), "GETRANGE: NOPERM", "ACL SETUSER"},
		{"a replica", redis(t, "--replicaof", "127.0.0.1 1", "--replica-serve-stale-data", "yes"), "READONLY", "name the primary"},
		{"its memory is full", redis(t, "--maxmemory", "1"), "OOM", "give it more"},
		{"a database that it has not", redis(t, "--databases", "1") + "/3", "out of range", "that of a database"},
		{"TLS where there is none", strings.Replace(redis(t), "redis:", "rediss:", 1), "no answer in time", "redis:// if not"},
		{"no TLS where there is", "redis://" + tlsRedis(t, certificate(&trusted, unchanged)), "", "It is rediss:// if Redis speaks TLS there"},
		{"a self-signed certificate", "rediss://" + tlsRedis(t, certificate(nil, unchanged)), "unknown authority", "SSL_CERT_FILE"},
		{"a certificate of another name", "rediss://" + tlsRedis(t, certificate(&trusted, func(c *x509.Certificate) { c.DNSNames = []string{"other.example.com"} })), "other.example.com", "is the host of AUTHGEAR_REDIS_URL right?"},
		{"an expired certificate", "rediss://" + tlsRedis(t, certificate(&trusted, func(c *x509.Certificate) { c.NotAfter = time.Now().Add(-time.Hour) })), "expired", "renew"},
		{"it wants certificates", "rediss://" + tlsRedis(t, certificate(&trusted, unchanged), "--tls-auth-clients", "yes"), "", "tls-auth-clients no"},
		{"it knows no MINID", between(t, redis(t), 0, noMinid, same), "XADD with MINID: Invalid stream ID", "is it Redis 6.2 or later"},
		{"a clock a minute ahead", between(t, redis(t), 0, same, clockAhead(time.Minute)), "AUTHGEAR_CLOCK_SKEW is 30s", "by NTP"},
		{"a clock a minute behind", between(t, redis(t), 0, same, clockAhead(-time.Minute)), "AUTHGEAR_CLOCK_SKEW is 30s", "by NTP"},
		{"a clock two seconds ahead", between(t, redis(t), 0, same, clockAhead(2*time.Second)), "its clock is 2", "warn set the clocks"},
		{"far away", between(t, redis(t), 40*time.Millisecond, same, same), "no request waits for it longer than 25ms", "in the same region"},
		{"it evicts", redis(t, "--maxmemory-policy", "allkeys-lru"), "allkeys-lru", "warn set maxmemory-policy to volatile-ttl"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := newStand(t, authgeartest.Options{})
			s.RedisURL, s.Timeout = tt.url, 2*time.Second
			report := s.examine(t)
			cure, warned := strings.CutPrefix(tt.cure, "warn ")
			odd := remarkable(report)
			if len(odd) != 1 || odd[0].Name != "redis" || !strings.Contains(odd[0].Found, tt.found) || !strings.Contains(odd[0].Cure, cure) || (odd[0].Status == check.Warned) != warned {
				t.Errorf("found %+v, want %q with the cure %q", odd, tt.found, tt.cure)
			}
			if strings.Contains(odd[0].Found+odd[0].Cure, "canary") {
				t.Errorf("it tells the password: %+v", odd[0])
			}
		})
	}
}

// One that answers nothing is not waited for.
func TestARedisThatStandsStill(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	s := newStand(t, authgeartest.Options{})
	s.RedisURL, s.Timeout = "redis://"+l.Addr().String(), 300*time.Millisecond
	if odd := remarkable(s.examine(t)); len(odd) != 1 || odd[0].Found != "there is no answer in time" {
		t.Errorf("%+v", odd)
	}
}
