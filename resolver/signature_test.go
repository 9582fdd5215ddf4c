package resolver

import (
	"bytes"
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"math"
	"math/big"
	mathrand "math/rand/v2"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"testing"
)

// keysOfAllSizes are some whose sizes are no multiples of each other, nor all of a byte.
var keysOfAllSizes = sync.OnceValue(func() (list []*rsa.PrivateKey) {
	for _, bits := range []int{2048, 2049, 2055, 2056, 3072, 4096} {
		k, err := rsa.GenerateKey(rand.Reader, bits)
		if err != nil {
			panic(err)
		}
		list = append(list, k)
	}
	return list
})

// agree tests that the signature is good here exactly if it is for crypto/rsa, and returns whether.
func agree(t *testing.T, k *rsa.PublicKey, digest [sha256.Size]byte, signature []byte) bool {
	t.Helper()
	key, err := newPublicKey(k)
	if err != nil {
		t.Fatal(err)
	}
	want := rsa.VerifyPKCS1v15(k, crypto.SHA256, digest[:], signature) == nil
	if got := key.verify(digest, signature); got != want {
		t.Errorf("%d bits, the digest %x, the signature %x: %t, and %t for crypto/rsa", k.N.BitLen(), digest, signature, got, want)
	}
	return want
}

// raw signs what is given, as it is.
func raw(k *rsa.PrivateKey, signed []byte) []byte {
	s := new(big.Int).Exp(new(big.Int).SetBytes(signed), k.D, k.N)
	return s.FillBytes(make([]byte, k.Size()))
}

// encoded is what is signed of a digest. RFC 8017 §9.2.
func encoded(size int, digest []byte) []byte {
	b := append([]byte{0, 1}, bytes.Repeat([]byte{0xff}, size-3-len(digestInfo)-len(digest))...)
	return append(append(append(b, 0), digestInfo...), digest...)
}

func TestSignaturesAreThoseOfCryptoRSA(t *testing.T) {
	for _, k := range keysOfAllSizes() {
		t.Run(strconv.Itoa(k.N.BitLen()), func(t *testing.T) {
			digest := sha256.Sum256([]byte("signed"))
			good, err := rsa.SignPKCS1v15(nil, k, crypto.SHA256, digest[:])
			if err != nil {
				t.Fatal(err)
			}
			if !agree(t, &k.PublicKey, digest, good) {
				t.Fatal("a good signature does not verify")
			}
			n, size := k.N, k.Size()
			number := func(x *big.Int) []byte { return x.FillBytes(make([]byte, size)) }
			s := new(big.Int).SetBytes(good)
			bad := map[string][]byte{
				"nothing": {}, "nil": nil, "zero": number(new(big.Int)), "one": number(big.NewInt(1)),
				"the modulus": number(n), "less by one": number(new(big.Int).Sub(n, big.NewInt(1))), "all ones": bytes.Repeat([]byte{0xff}, size),
				"cut": good[:size-1], "cut in front": good[1:], "longer": append(bytes.Clone(good), 0), "longer in front": append([]byte{0}, good...),
				"the other root": number(new(big.Int).Sub(n, s)),
			}
			if more := new(big.Int).Add(s, n); more.BitLen() <= 8*size {
				bad["the same beyond the modulus"] = number(more)
			}
			em := encoded(size, digest[:])
			for at := range em { // each byte of what is signed counts
				other := bytes.Clone(em)
				other[at] ^= 1
				if new(big.Int).SetBytes(other).Cmp(n) < 0 && (size < 300 || at%16 == 0) {
					bad["with another byte "+strconv.Itoa(at)] = raw(k, other)
				}
			}
			without := []byte{0x30, 0x2f, 0x30, 0x0b, 0x06, 0x09, 0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02, 0x01, 0x04, 0x20} // no NULL
			short := append(append([]byte{0, 1}, bytes.Repeat([]byte{0xff}, size-3-len(without)-32)...), 0)
			bad["without the NULL of the algorithm"] = raw(k, append(append(short, without...), digest[:]...))
			garbage := append(append([]byte{0, 1}, bytes.Repeat([]byte{0xff}, 8)...), 0)
			garbage = append(append(garbage, digestInfo...), digest[:]...)
			bad["with garbage behind"] = raw(k, append(garbage, make([]byte, size-len(garbage))...)) // Bleichenbacher, 2006
			bad["with the digest alone"] = raw(k, append(make([]byte, size-32), digest[:]...))
			for name, signature := range bad {
				if agree(t, &k.PublicKey, digest, signature) {
					t.Errorf("%s: verifies", name)
				}
			}
			agree(t, &k.PublicKey, sha256.Sum256([]byte("other")), good)
		})
	}
}

// Of a small exponent, too, nothing but the one text is good.
func TestSignaturesWithTheExponent3(t *testing.T) {
	k := keyWithExponent3(t)
	digest := sha256.Sum256([]byte("signed"))
	if !agree(t, &k.PublicKey, digest, raw(k, encoded(k.Size(), digest[:]))) {
		t.Error("a good signature does not verify")
	}
	// The cube root of a text that begins as it must: what a check lets pass that reads from the front.
	begin := append(append([]byte{0, 1, 0xff, 0}, digestInfo...), digest[:]...)
	most := new(big.Int).SetBytes(append(begin, bytes.Repeat([]byte{0xff}, k.Size()-len(begin))...))
	if agree(t, &k.PublicKey, digest, cubeRoot(most).FillBytes(make([]byte, k.Size()))) {
		t.Error("a cube root verifies")
	}
}

func keyWithExponent3(t *testing.T) *rsa.PrivateKey {
	three, one := big.NewInt(3), big.NewInt(1)
	prime := func() (p, order *big.Int) {
		for {
			p, err := rand.Prime(rand.Reader, 1024)
			if err != nil {
				t.Fatal(err)
			}
			if order := new(big.Int).Sub(p, one); new(big.Int).Mod(order, three).Sign() != 0 {
				return p, order
			}
		}
	}
	p, p1 := prime()
	q, q1 := prime()
	return &rsa.PrivateKey{
		PublicKey: rsa.PublicKey{N: new(big.Int).Mul(p, q), E: 3},
		D:         new(big.Int).ModInverse(three, new(big.Int).Mul(p1, q1)),
	}
}

// cubeRoot is rounded down.
func cubeRoot(x *big.Int) *big.Int {
	low, high := new(big.Int), new(big.Int).Lsh(big.NewInt(1), uint(x.BitLen()/3+1))
	for one := big.NewInt(1); new(big.Int).Sub(high, low).Cmp(one) > 0; {
		mid := new(big.Int).Rsh(new(big.Int).Add(low, high), 1)
		if new(big.Int).Exp(mid, big.NewInt(3), nil).Cmp(x) > 0 {
			high = mid
		} else {
			low = mid
		}
	}
	return low
}

func TestKeysThatCannotVerify(t *testing.T) {
	n := keysOfAllSizes()[0].N
	one, long := big.NewInt(1), math.MaxInt32
	long += 2 // where an int has 32 bits, it is negative
	for name, k := range map[string]rsa.PublicKey{
		"of 2047 bits":        {N: new(big.Int).Rsh(n, 1), E: 65537},
		"of 4097 bits":        {N: new(big.Int).Add(new(big.Int).Lsh(one, 4096), one), E: 65537},
		"negative":            {N: new(big.Int).Neg(n), E: 65537},
		"even":                {N: new(big.Int).Add(n, one), E: 65537},
		"with exponent 0":     {N: n},
		"with exponent 1":     {N: n, E: 1},
		"with exponent 2":     {N: n, E: 2},
		"with exponent -3":    {N: n, E: -3},
		"with an even one":    {N: n, E: 65536},
		"with one of 32 bits": {N: n, E: long},
		"without anything":    {N: new(big.Int)},
		"with a modulus of 1": {N: one, E: 65537},
	} {
		if _, err := newPublicKey(&k); err == nil {
			t.Errorf("a key %s may verify", name)
		}
	}
}

// A key set is read by go-jose, whose bound is the same.
func TestTheLargestKeyIsRead(t *testing.T) {
	for bits, want := range map[int]bool{4096: true, 4104: false} {
		n := new(big.Int).Add(new(big.Int).Lsh(big.NewInt(1), uint(bits-1)), big.NewInt(1))
		jwk := fmt.Sprintf(`{"keys":[{"kty":"RSA","kid":"k","n":%q,"e":"AQAB"}]}`, base64.RawURLEncoding.EncodeToString(n.Bytes()))
		if set, err := parseKeys([]byte(jwk)); (err == nil && set.byID["k"] != nil) != want {
			t.Errorf("%d bits: %v", bits, err)
		}
	}
}

// Where Go must use its FIPS 140 module, that judges: it takes no exponent of 3.
func TestInFIPSModeGoItselfVerifies(t *testing.T) {
	digest := sha256.Sum256([]byte("signed"))
	if modulus, signature, child := strings.Cut(os.Getenv("SIGNED"), " "); child {
		n, _ := new(big.Int).SetString(modulus, 16)
		s, _ := new(big.Int).SetString(signature, 16)
		if agree(t, &rsa.PublicKey{N: n, E: 3}, digest, s.FillBytes(make([]byte, 256))) {
			t.Error("it takes one")
		}
		return
	}
	k := keyWithExponent3(t)
	again := exec.Command(os.Args[0], "-test.run", "^"+t.Name()+"$")
	again.Env = append(os.Environ(), "GODEBUG=fips140=only", fmt.Sprintf("SIGNED=%x %x", k.N, raw(k, encoded(k.Size(), digest[:]))))
	if out, err := again.CombinedOutput(); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
}

// Whatever the signature and what it was made of.
func FuzzSignature(f *testing.F) {
	k := keysOfAllSizes()[0]
	digest := sha256.Sum256([]byte("signed"))
	f.Add([]byte("signed"), encoded(k.Size(), digest[:]), true)
	f.Add([]byte("signed"), encoded(k.Size()-1, digest[:]), true)
	f.Add([]byte("signed"), raw(k, encoded(k.Size(), digest[:])), false)
	f.Add([]byte(""), []byte{}, false)
	random := mathrand.NewChaCha8([32]byte{})
	for range 8 {
		b := make([]byte, k.Size())
		random.Read(b)
		f.Add(b[:8], b, false)
		f.Add(b[:8], b[:200], true)
	}
	f.Fuzz(func(t *testing.T, text, b []byte, sign bool) {
		if sign {
			if len(b) > k.Size() {
				b = b[:k.Size()]
			}
			b = raw(k, b)
		}
		digest := sha256.Sum256(text)
		if agree(t, &k.PublicKey, digest, b) && !bytes.Equal(b, raw(k, encoded(k.Size(), digest[:]))) {
			t.Errorf("the text %q has a second signature: %x", text, b)
		}
	})
}
