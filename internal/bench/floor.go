//go:build linux

package main

import (
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"errors"
	"fmt"
	"hash/maphash"
	"net"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/dgraph-io/ristretto/v2"
	"github.com/valyala/fasthttp"
)

// helper returns what the program does when it was started by itself, as one of the
// processes that a row needs; nil if it was not.
func helper(args []string) func() error {
	helpers := map[string]func(args []string) error{
		"bare":     serveBare,
		"lookup":   serveLookup,
		"verify":   verifyAll,
		"authgear": serveAuthgear,
	}
	if len(args) == 0 || helpers[args[0]] == nil {
		return nil
	}
	return func() error { return helpers[args[0]](args[1:]) }
}

// answer is that of the service on a 200, in its order; that of ada.
var answer = [...][2]string{
	{"Cache-Control", "no-store"},
	{"X-Authgear-Session-Valid", "true"},
	{"X-Authgear-User-Id", "4098a1a2-805e-4235-9698-8708fb27df95"},
	{"X-Authgear-User-Anonymous", "false"},
	{"X-Authgear-User-Verified", "true"},
	{"X-Authgear-User-Roles", roleNames},
	{"X-Authgear-Session-Amr", "pwd x_primary_password"},
	{"X-Authgear-Session-Authenticated-At", "1795186069"},
	{"X-Authgear-User-Can-Reauthenticate", "true"},
	{"X-Authgear-Client-Id", "spa-jwt"},
	{"X-Authgear-Scope", "openid offline_access https://authgear.com/scopes/full-access"},
}

const idField = 2 // in answer

// names are those of the fields of answer.
var names = func() (list [len(answer)][]byte) {
	for i, field := range answer {
		list[i] = []byte(field[0])
	}
	return list
}()

// A rendered answer only needs to be copied: the values, and where each ends.
type rendered struct {
	text []byte
	ends [len(answer)]uint16
}

// render returns the answer about a user.
func render(user string) *rendered {
	r := &rendered{}
	for i, field := range answer {
		if i == idField {
			field[1] = user
		}
		r.text = append(r.text, field[1]...)
		r.ends[i] = uint16(len(r.text))
	}
	r.text = slices.Clone(r.text) // without the room that it grew into
	return r
}

func (r *rendered) writeTo(ctx *fasthttp.RequestCtx) {
	begin := uint16(0)
	for i, end := range r.ends {
		ctx.Response.Header.SetCanonical(names[i], r.text[begin:end])
		begin = end
	}
}

// serveBare answers everybody the same. It looks at nothing.
func serveBare(args []string) error {
	constants := render(answer[idField][1])
	return serveFloor(args[0], constants.writeTo)
}

// serveLookup remembers an answer for each credential, in ristretto alone.
func serveLookup(args []string) error {
	entries, err := strconv.ParseInt(args[1], 10, 64)
	if err != nil {
		return err
	}
	store, err := ristretto.NewCache(&ristretto.Config[uint64, *rendered]{
		NumCounters: max(10*entries, 100), MaxCost: 2*entries + 1000, BufferItems: 64, IgnoreInternalCost: true,
	})
	if err != nil {
		return err
	}
	seed := maphash.MakeSeed()
	return serveFloor(args[0], func(ctx *fasthttp.RequestCtx) {
		h := &ctx.Request.Header
		credential := h.Peek(fasthttp.HeaderAuthorization)
		if len(credential) == 0 {
			credential = h.Peek(fasthttp.HeaderCookie)
		}
		key := maphash.Bytes(seed, credential)
		known, ok := store.Get(key)
		if !ok {
			known = render(userOf(fmt.Sprintf("%016x%016x", key, mix(key))))
			store.Set(key, known, 1)
			store.Wait()
		}
		known.writeTo(ctx)
	})
}

// serveFloor serves as fasthttp does by itself, without any timeout.
func serveFloor(addr string, handler fasthttp.RequestHandler) error {
	network := "tcp"
	if path, ok := strings.CutPrefix(addr, "unix:"); ok {
		network, addr = "unix", path
	}
	l, err := net.Listen(network, addr)
	if err != nil {
		return err
	}
	if network == "unix" {
		if err := os.Chmod(addr, 0o666); err != nil { // nginx may run as another user
			return err
		}
	}
	server := fasthttp.Server{Handler: handler, NoDefaultServerHeader: true, NoDefaultContentType: true}
	return server.Serve(l)
}

// verifyAll verifies one signature for so long, and prints how many nanoseconds of its
// core each time took.
func verifyAll(args []string) error {
	d, err := time.ParseDuration(args[0])
	if err != nil {
		return err
	}
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		return err
	}
	signed := []byte(strings.Repeat("a token of usual length", 24))
	sum := sha256.Sum256(signed)
	signature, err := rsa.SignPKCS1v15(nil, key, crypto.SHA256, sum[:])
	if err != nil {
		return err
	}
	before, err := cpu(os.Getpid())
	if err != nil {
		return err
	}
	n := 0
	for begin := time.Now(); time.Since(begin) < d; n++ {
		sum := sha256.Sum256(signed)
		if rsa.VerifyPKCS1v15(&key.PublicKey, crypto.SHA256, sum[:], signature) != nil {
			return errors.New("a good signature does not verify")
		}
	}
	after, err := cpu(os.Getpid())
	fmt.Println(float64(after-before) / float64(n))
	return err
}
