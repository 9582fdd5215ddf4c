package resolver

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"sync"
)

// A Key stands for the exact bytes of which Authgear is asked. It means nothing
// outside this process, or the fleet that it shares its keys with, and must not be shown
// outside of it.
type Key [16]byte

// Key returns a GMAC over the credentials, each with its slot and length in front,
// so that no two lists have the same text.
//
// GMAC (NIST SP 800-38D) is keyed by a secret of this process and costs a third of
// a SHA-256. While nobody sees a Key, two given texts have the same one with a
// probability of 2⁻¹¹⁵ at most, whoever chose them; so one nonce will do.
func (c Credentials) Key() Key {
	w := keyWorks.Get().(*keyWork)
	w.text = w.text[:0]
	for _, one := range c.List {
		if len(c.List) == 1 && one.Slot == AppAccessToken && one.IsJWT() {
			one.Slot = Bearer // the same token, wherever it stands
		}
		w.text = binary.BigEndian.AppendUint32(append(w.text, byte(one.Slot)), uint32(len(one.Value)))
		w.text = append(w.text, one.Value...)
	}
	w.sum(gmac)
	key := w.key
	keyWorks.Put(w)
	return key
}

// Short returns the first 64 bits of the key, by which a store may find it but
// not tell it from others.
func (k Key) Short() uint64 { return binary.BigEndian.Uint64(k[:8]) }

// keyWork is what a Key is made of, kept so that making one allocates nothing.
type keyWork struct {
	text  []byte
	nonce [12]byte
	key   Key
}

var keyWorks = sync.Pool{New: func() any { return new(keyWork) }}

// sum makes the key of the text. Where Go allows no GCM whose nonces are not its own
// (GODEBUG=fips140=only), there is no GMAC, and SHA-256 does it.
func (w *keyWork) sum(gmac cipher.AEAD) {
	if gmac == nil {
		sum := sha256.Sum256(append(w.text, keySecret...))
		copy(w.key[:], sum[:])
		return
	}
	gmac.Seal(w.key[:0], w.nonce[:], nil, w.text)
}

// ShareKeys makes the Keys of all processes with that secret, of 32 bytes, the same. It is
// called before the first Key is made, if at all.
func ShareKeys(secret []byte) {
	keySecret = secret
	gmac = newGMAC(secret)
}

var keySecret = func() []byte {
	secret := make([]byte, 32)
	rand.Read(secret) // never fails
	return secret
}()

var gmac = newGMAC(keySecret)

func newGMAC(secret []byte) cipher.AEAD {
	block, err := aes.NewCipher(secret)
	if err != nil {
		return nil
	}
	gcm, err := cipher.NewGCM(block)
	if err != nil {
		return nil
	}
	return gcm
}
