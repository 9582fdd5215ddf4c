package fleet

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"errors"

	"authgear-forward-auth/resolver"
)

// secrets are what the fleet's secret is made into, others for each issuer: a credential
// that is good at one Authgear project is not at another. Who reads Redis learns neither
// credentials nor identities, and who writes to it without them forges nothing.
type secrets struct{ names, values []byte }

func newSecrets(fleet, issuer string) secrets {
	derive := func(purpose string) []byte {
		key, err := hkdf.Key(sha256.New, []byte(fleet), []byte(issuer), "authgear-forward-auth "+purpose, 32)
		if err != nil {
			panic(err) // the length is too great for SHA-256; it is not
		}
		return key
	}
	return secrets{names: derive("names"), values: derive("values")}
}

// KeySecret is what the replicas of a fleet key their credentials by, so that all
// file the same one under the same [resolver.Key].
func KeySecret(fleet, issuer string) []byte {
	return hmacOf(newSecrets(fleet, issuer).names, []byte("resolver.Key"))
}

// name is under what the fleet files a credential. A Key itself must not be shown.
func (s secrets) name(k resolver.Key) string {
	return base64.RawURLEncoding.EncodeToString(hmacOf(s.names, k[:])[:18])
}

const saltBytes = 16

// seal makes a text that only who has the secret can read or make, and that is good
// under this name alone. Each has a key of its own, by a random salt, so that there may
// be as many as there are.
func (s secrets) seal(name string, text []byte) string {
	salt := make([]byte, saltBytes, saltBytes+len(text)+12+16) // nonce and tag
	rand.Read(salt)                                            // never fails
	return string(s.aead(salt).Seal(salt, nil, text, []byte(name)))
}

var errSealed = errors.New("sealed with another AUTHGEAR_FLEET_SECRET, or changed")

func (s secrets) open(name, sealed string) ([]byte, error) {
	if len(sealed) < saltBytes {
		return nil, errSealed
	}
	text, err := s.aead([]byte(sealed[:saltBytes])).Open(nil, nil, []byte(sealed[saltBytes:]), []byte(name))
	if err != nil {
		return nil, errSealed
	}
	return text, nil
}

func (s secrets) aead(salt []byte) cipher.AEAD {
	block, err := aes.NewCipher(hmacOf(s.values, salt))
	if err != nil {
		panic(err) // the key has 32 bytes
	}
	gcm, err := cipher.NewGCMWithRandomNonce(block)
	if err != nil {
		panic(err) // the block is that of AES
	}
	return gcm
}

func hmacOf(key, text []byte) []byte {
	mac := hmac.New(sha256.New, key)
	mac.Write(text)
	return mac.Sum(nil)
}
