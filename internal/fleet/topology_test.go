package fleet

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"authgear-forward-auth/internal/lab"
	"authgear-forward-auth/resolver"
)

func freePort(t *testing.T) string {
	t.Helper()
	addr, err := lab.FreeAddr()
	if err != nil {
		t.Fatal(err)
	}
	_, port, _ := net.SplitHostPort(addr)
	return port
}

// listening runs a redis-server at a port.
func listening(t *testing.T, port string, args ...string) *os.Process {
	t.Helper()
	return runRedis(t, "tcp", "127.0.0.1:"+port, append(args, "--bind", "127.0.0.1", "--save", "", "--appendonly", "no", "--dir", t.TempDir())...)
}

// cli runs redis-cli, which must do as it is told.
func cli(t *testing.T, port string, args ...string) string {
	t.Helper()
	out, err := exec.Command("redis-cli", append([]string{"-p", port}, args...)...).CombinedOutput()
	if err != nil || strings.HasPrefix(string(out), "ERR") {
		t.Fatalf("redis-cli %v: %v: %s", args, err, out)
	}
	return string(out)
}

// share makes one replica share a few sessions and an event, and waits until the other knows.
func (r *replica) share(t *testing.T, other *replica, name string) {
	t.Helper()
	heard := len(other.heard())
	for i := range 10 {
		token := bearer(fmt.Sprint(name, i))
		eventually(t, name+": a session is shared", func() bool {
			if _, err := r.Asking(&authgear{}).Resolve(t.Context(), token); err != nil {
				t.Error(err)
			}
			_, err := other.Known().Resolve(t.Context(), token)
			return err == nil
		})
	}
	r.Tell(Event{User: name})
	eventually(t, name+": an event is told", func() bool { return len(other.heard()) == heard+1 })
	r.Asking(nobody).Resolve(t.Context(), notBefore(bearer(name+"0"), time.Now()))
	eventually(t, name+": that a session is gone is shared", func() bool {
		_, err := other.Known().Resolve(t.Context(), bearer(name+"0"))
		return errors.Is(err, resolver.ErrNotMine)
	})
}

// What docs/fleet.md says that a user of Redis needs.
var (
	aclPlain   = []string{"resetkeys", "~afa:*", "resetchannels", "-@all", "+ping", "+time", "+set", "+getrange", "+del", "+xadd", "+xread"}
	aclCluster = append(aclPlain[:len(aclPlain):len(aclPlain)], "+cluster|slots", "+cluster|shards")
	aclMaster  = append(aclPlain[:len(aclPlain):len(aclPlain)], "+role")
)

// addUser makes a user with no more rights than that.
func addUser(t *testing.T, port string, acl []string) {
	t.Helper()
	cli(t, port, append([]string{"acl", "setuser", "afa", "on", ">password"}, acl...)...)
}

// nothingRefused tells whether the user lacked no right: none but the name of the client
// library, which is told without need.
func nothingRefused(t *testing.T, port string) {
	t.Helper()
	if log := cli(t, port, "acl", "log"); strings.Contains(log, "object") {
		for _, refused := range strings.Split(log, "object")[1:] {
			if what := strings.Fields(refused)[0]; what != "client|setinfo" && what != "cluster|slots" {
				t.Errorf("it may not %s", what)
			}
		}
	}
}

func TestAUserOfRedisNeedsFewRights(t *testing.T) {
	port := freePort(t)
	listening(t, port, "--port", port)
	addUser(t, port, aclPlain)
	r := &redis{url: "redis://afa:password@127.0.0.1:" + port}
	one, two := join(t, r), join(t, r)
	one.share(t, two, "acl")
	nothingRefused(t, port)
	for i, right := range aclPlain {
		command, ok := strings.CutPrefix(right, "+")
		if !ok || command == "ping" { // it is sent when nothing else was
			continue
		}
		addUser(t, port, append([]string{"reset", "on", ">password"}, append(aclPlain[:i:i], aclPlain[i+1:]...)...))
		eventually(t, command+" is asked for", func() bool {
			token := notBefore(bearer(command), time.Now())
			one.Asking(&authgear{}).Resolve(t.Context(), token)
			one.Asking(nobody).Resolve(t.Context(), token)
			one.Tell(Event{User: command})
			return strings.Contains(cli(t, port, "acl", "log"), command)
		})
		addUser(t, port, aclPlain)
	}
}

func TestACluster(t *testing.T) {
	create := []string{"--cluster", "create"}
	var ports []string
	for range 3 {
		port, bus := freePort(t), freePort(t)
		ports = append(ports, port)
		create = append(create, "127.0.0.1:"+port+"@"+bus)
		listening(t, port, "--port", port, "--cluster-enabled", "yes", "--cluster-node-timeout", "2000", "--cluster-port", bus)
		addUser(t, port, aclCluster)
	}
	cli(t, ports[0], append(create, "--cluster-yes")...)
	eventually(t, "it is one", func() bool {
		for _, port := range ports {
			if !strings.Contains(cli(t, port, "cluster", "info"), "cluster_state:ok") {
				return false
			}
		}
		return true
	})
	r := &redis{url: "redis://afa:password@127.0.0.1:" + ports[0] + "?addr=127.0.0.1:" + ports[1]}
	one, two := join(t, r), join(t, r)
	one.share(t, two, "cluster")
	if events, tried := cli(t, ports[0], "cluster", "keyslot", one.stream), cli(t, ports[0], "cluster", "keyslot", leaseKey(one.stream)); events != tried {
		t.Errorf("events are in slot %s, and what is told is tried in slot %s", events, tried)
	}
	for _, port := range ports {
		nothingRefused(t, port)
	}
	r.probed(t)
}

// probed does what `check` does.
func (r *redis) probed(t *testing.T) {
	t.Helper()
	if s, err := Probe(t.Context(), r.url); err != nil || s.RoundTrip <= 0 || s.Ahead.Abs() > Difference {
		t.Errorf("Probe: %+v, %v", s, err)
	}
}

func TestAFailoverOfSentinel(t *testing.T) {
	first, second, watch := freePort(t), freePort(t), freePort(t)
	master := listening(t, first, "--port", first)
	listening(t, second, "--port", second, "--replicaof", "127.0.0.1 "+first, "--repl-diskless-sync-delay", "0")
	for _, port := range []string{first, second} {
		addUser(t, port, aclMaster)
	}
	eventually(t, "it follows", func() bool { return strings.Contains(cli(t, second, "info", "replication"), "master_link_status:up") })
	conf := filepath.Join(t.TempDir(), "sentinel.conf")
	text := fmt.Sprintf("port %s\nbind 127.0.0.1\nsentinel monitor main 127.0.0.1 %s 1\nsentinel down-after-milliseconds main 500\nsentinel failover-timeout main 2000\n", watch, first)
	if err := os.WriteFile(conf, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	runRedis(t, "tcp", "127.0.0.1:"+watch, conf, "--sentinel")
	eventually(t, "Sentinel knows the replica", func() bool { return strings.Contains(cli(t, watch, "sentinel", "replicas", "main"), second) })

	r := &redis{url: "redis://afa:password@127.0.0.1:" + watch + "?master_set=main"}
	one, two := join(t, r), join(t, r)
	one.share(t, two, "before")
	master.Kill()
	ada := &authgear{}
	for i := 0; !strings.Contains(cli(t, watch, "sentinel", "get-master-addr-by-name", "main"), second); i++ {
		if _, err := one.Asking(ada).Resolve(t.Context(), bearer(fmt.Sprint("meanwhile", i))); err != nil {
			t.Fatal(err)
		}
	}
	if ada.calls.Load() == 0 {
		t.Error("nothing was asked meanwhile")
	}
	one.share(t, two, "after")
	nothingRefused(t, second)
	r.probed(t)
}

// A primary may become a replica, and keep the connections to it: a new one leads to the next.
func TestAFailoverThatEndsNoConnection(t *testing.T) {
	first, second := freePort(t), freePort(t)
	listening(t, first, "--port", first)
	listening(t, second, "--port", second, "--replicaof", "127.0.0.1 "+first, "--repl-diskless-sync-delay", "0")
	var primary atomic.Pointer[string]
	primary.Store(&first)
	var pair [2]*replica
	for i := range pair {
		it := newReplica(t, &redis{url: "redis://primary.example:6379"})
		it.options.DialCtxFn = func(ctx context.Context, _ string, d *net.Dialer, _ *tls.Config) (net.Conn, error) {
			return d.DialContext(ctx, "tcp", "127.0.0.1:"+*primary.Load())
		}
		it.run(t)
		eventually(t, "the replica takes part", func() bool { return len(it.Troubles()) == 0 })
		pair[i] = it
	}
	pair[0].share(t, pair[1], "before")
	cli(t, second, "replicaof", "no", "one")
	cli(t, first, "replicaof", "127.0.0.1", second)
	pair[0].Tell(Event{User: "meanwhile"})
	eventually(t, "it is told of", func() bool { return strings.Contains(fmt.Sprint(pair[0].Troubles()), "READONLY") })
	primary.Store(&second)
	eventually(t, "the event is told", func() bool { return strings.Contains(fmt.Sprint(pair[1].heard()), "meanwhile") })
	pair[0].share(t, pair[1], "after")
	eventually(t, "it is over", func() bool { return len(pair[0].Troubles()) == 0 })
}

// A Redis may answer what it is asked, and take nothing.
func TestARedisThatTakesNothingIsToldOf(t *testing.T) {
	for says, change := range map[string][2][]string{
		"OOM":       {{"config", "set", "maxmemory", "1"}, {"config", "set", "maxmemory", "0"}},
		"no answer": {{"client", "pause", "100000", "WRITE"}, {"client", "unpause"}},
	} {
		t.Run(says, func(t *testing.T) {
			port := freePort(t)
			listening(t, port, "--port", port)
			var warned atomic.Int32
			r := &redis{url: "redis://127.0.0.1:" + port}
			one, two := join(t, r, func(o *Options) {
				o.Warn = func(err error) {
					if strings.Contains(err.Error(), ": "+says) {
						warned.Add(1)
					}
				}
			}), join(t, r)
			cli(t, port, change[0]...)
			one.Tell(Event{User: "ada"})
			for _, it := range []*replica{one, two} {
				eventually(t, "it is told of", func() bool { return strings.Contains(fmt.Sprint(it.Troubles()), "takes nothing: "+says) })
			}
			eventually(t, "it is logged", func() bool { return warned.Load() > 0 })
			for i := range 20 { // requests find out, too
				two.Asking(&authgear{}).Resolve(t.Context(), bearer(fmt.Sprint(i)))
			}
			eventually(t, "it is told of under load", func() bool { return strings.Contains(fmt.Sprint(two.Troubles()), "takes nothing: "+says) })
			cli(t, port, change[1]...)
			for _, it := range []*replica{one, two} {
				eventually(t, "it is over", func() bool { return len(it.Troubles()) == 0 })
			}
			eventually(t, "the event is told", func() bool { return len(two.heard()) >= 1 })
		})
	}
}

func TestTLS(t *testing.T) {
	dir := t.TempDir()
	cert, key := filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	for name, block := range localhost() {
		if err := os.WriteFile(filepath.Join(dir, name), pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	t.Setenv("SSL_CERT_FILE", cert)
	port := freePort(t)
	listening(t, port, "--port", "0", "--tls-port", port, "--tls-cert-file", cert, "--tls-key-file", key, "--tls-auth-clients", "no")
	r := &redis{url: "rediss://localhost:" + port}
	join(t, r).share(t, join(t, r), "tls")
	r.probed(t)
}

// localhost returns a certificate and its key. There is one for the process, which reads
// SSL_CERT_FILE once.
var localhost = sync.OnceValue(func() map[string]*pem.Block {
	must := func(err error) {
		if err != nil {
			panic(err)
		}
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(err)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "localhost"}, DNSNames: []string{"localhost"},
		NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true,
	}
	cert, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	must(err)
	secret, err := x509.MarshalPKCS8PrivateKey(key)
	must(err)
	return map[string]*pem.Block{"cert.pem": {Type: "CERTIFICATE", Bytes: cert}, "key.pem": {Type: "PRIVATE KEY", Bytes: secret}}
})

// A user of Redis may have no right to tell events, and a right to all else.
func TestEventsThatCannotBeToldAreToldOfAllTheTime(t *testing.T) {
	port := freePort(t)
	listening(t, port, "--port", port)
	r := &redis{url: "redis://127.0.0.1:" + port}
	one := join(t, r)
	cli(t, port, "acl", "setuser", "default", "-xadd")
	one.Tell(Event{User: "ada"})
	refused := func() bool { return strings.Contains(fmt.Sprint(one.Troubles()), "takes nothing: NOPERM") }
	eventually(t, "it is told of", refused)
	for end := time.Now().Add(2 * patrol); time.Now().Before(end); time.Sleep(time.Millisecond) {
		if len(one.Troubles()) == 0 {
			t.Fatal("it was told of, and is not any more")
		}
	}
	cli(t, port, "acl", "setuser", "default", "+xadd")
	eventually(t, "it is over", func() bool { return len(one.Troubles()) == 0 })
}
