package resolver

import (
	"bytes"
	"crypto"
	"crypto/fips140"
	"crypto/rsa"
	"crypto/sha256"
	"errors"
	"fmt"
	"math"

	"filippo.io/bigmod"
)

// A publicKey checks signatures of RS256: RSASSA-PKCS1-v1_5 with SHA-256, RFC 7518 §3.3. The
// arithmetic is that of crypto/rsa, and so is the check (RFC 8017 §8.2.2): there is one text that
// may have been signed, and nothing in it is parsed. What follows from the key alone, a third of
// the work, is done once here, and for each signature there.
//
// Where Go must use its FIPS 140 module (GODEBUG=fips140), crypto/rsa itself does it.
type publicKey struct {
	*rsa.PublicKey
	modulus *bigmod.Modulus
	prefix  []byte // of what is signed, before the digest
}

// digestInfo of SHA-256 in DER, before the digest. RFC 8017 §9.2, note 1.
var digestInfo = []byte{0x30, 0x31, 0x30, 0x0d, 0x06, 0x09, 0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02, 0x01, 0x05, 0x00, 0x04, 0x20}

// newPublicKey refuses keys that are weak, as far as that can be seen at once. That a modulus is the
// product of two large primes is for the issuer to see to.
func newPublicKey(k *rsa.PublicKey) (*publicKey, error) {
	switch bits := k.N.BitLen(); {
	case bits < minRSABits || bits > maxRSABits:
		return nil, fmt.Errorf("a modulus of %d bits", bits)
	case k.N.Sign() < 0 || k.N.Bit(0) == 0:
		return nil, errors.New("an even modulus")
	case k.E < minRSAExponent || k.E > math.MaxInt32 || k.E%2 == 0:
		return nil, fmt.Errorf("the exponent %d", k.E)
	}
	modulus, err := bigmod.NewModulus(k.N.Bytes())
	if err != nil {
		return nil, err
	}
	key := &publicKey{PublicKey: k, modulus: modulus}
	// 0x00 0x01 0xff … 0xff 0x00: EMSA-PKCS1-v1_5, RFC 8017 §9.2.
	padding := bytes.Repeat([]byte{0xff}, modulus.Size()-3-len(digestInfo)-sha256.Size)
	key.prefix = bytes.Join([][]byte{{0, 1}, padding, {0}, digestInfo}, nil)
	return key, nil
}

// verify tells whether the signature is that of a text with this digest.
func (k *publicKey) verify(digest [sha256.Size]byte, signature []byte) bool {
	if fips140.Enabled() {
		return rsa.VerifyPKCS1v15(k.PublicKey, crypto.SHA256, digest[:], signature) == nil
	}
	if len(signature) != k.modulus.Size() {
		return false
	}
	s, err := bigmod.NewNat().SetBytes(signature, k.modulus)
	if err != nil { // it is not less than the modulus
		return false
	}
	var room [maxRSABits / 8]byte
	want, err := bigmod.NewNat().SetBytes(append(append(room[:0], k.prefix...), digest[:]...), k.modulus)
	return err == nil && bigmod.NewNat().ExpShortVarTime(s, uint(k.E), k.modulus).Equal(want) == 1
}
