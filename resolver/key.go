package resolver

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"encoding/binary"
	"sync"
)

// A Key stands for the exact bytes of which Authgear is asked. It means nothing
// outside this process, and must not be shown outside of it.
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
		w.text = binary.BigEndian.AppendUint32(append(w.text, byte(one.Slot)), uint32(len(one.Value)))
		w.text = append(w.text, one.Value...)
	}
	keyCipher.Seal(w.key[:0], w.nonce[:], nil, w.text)
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

var keyCipher = func() cipher.AEAD {
	secret := make([]byte, 16)
	rand.Read(secret) // never fails
	block, err := aes.NewCipher(secret)
	if err != nil {
		panic(err) // not with 16 bytes
	}
	gmac, err := cipher.NewGCM(block)
	if err != nil {
		panic(err) // not with AES
	}
	return gmac
}()
