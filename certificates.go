package main

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/rs/zerolog"
)

// certificates are what the main listener shows its peers, and the CA that theirs must
// be signed by. The files are read again when they change; while the new ones cannot
// be used, or peers would refuse them, the old ones stay in force. It is nil without TLS.
type certificates struct {
	cert, key, clientCA string // files; without the last, no certificate is asked for
	log                 zerolog.Logger
	inForce             atomic.Pointer[tls.Config]

	mu     sync.Mutex
	looked time.Time
	seen   []os.FileInfo // of the files, when they were read last
	said   string        // why they were not used then
	due    time.Time     // when a certificate that came too early can be used; zero: there is none
}

// lookEvery is how often it is looked whether the files have changed, at most.
const lookEvery = time.Second

// loadCertificates reads the files that the settings name.
func loadCertificates(set settings, log zerolog.Logger) (*certificates, error) {
	if set.TLSCert == "" || set.TLSKey == "" {
		return nil, nil
	}
	c := &certificates{cert: set.TLSCert, key: set.TLSKey, clientCA: set.TLSClientCA, log: log}
	return c, c.readAgain()
}

// config returns how the main listener speaks TLS; nil if it does not.
func (c *certificates) config() *tls.Config {
	if c == nil {
		return nil
	}
	return &tls.Config{GetConfigForClient: func(*tls.ClientHelloInfo) (*tls.Config, error) {
		c.look()
		return c.inForce.Load(), nil
	}}
}

// look reads the files if they have changed.
func (c *certificates) look() {
	if !c.mu.TryLock() {
		return // somebody else does
	}
	defer c.mu.Unlock()
	if time.Since(c.looked) < lookEvery {
		return
	}
	c.looked = time.Now()
	if slices.EqualFunc(c.stat(), c.seen, unchanged) && (c.due.IsZero() || c.looked.Before(c.due)) {
		return
	}
	again := c.seen == nil // nothing has changed, but it may be readable now
	err := c.read()
	if err != nil && !(again && err.Error() == c.said) {
		c.log.Warn().Err(err).Msg("the new certificates are not used")
	}
	c.said = fmt.Sprint(err)
}

// readAgain reads the files, whether they have changed or not.
func (c *certificates) readAgain() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.read()
}

// stat returns what is known of the files; nil of one that is not there.
func (c *certificates) stat() (list []os.FileInfo) {
	for _, file := range []string{c.cert, c.key, c.clientCA} {
		info, err := os.Stat(file)
		if err != nil {
			info = nil
		}
		list = append(list, info)
	}
	return list
}

func unchanged(a, b os.FileInfo) bool {
	if a == nil || b == nil {
		return a == nil && b == nil
	}
	return os.SameFile(a, b) && a.ModTime().Equal(b.ModTime()) && a.Size() == b.Size()
}

// read puts what the files hold in force, if it can be used.
func (c *certificates) read() error {
	c.seen = c.stat() // first: a file that changes while it is read has changed since
	c.due = time.Time{}
	cert, certErr := readPEM("AUTHGEAR_TLS_CERT", c.cert)
	key, keyErr := readPEM("AUTHGEAR_TLS_KEY", c.key)
	config := &tls.Config{MinVersion: tls.VersionTLS12, NextProtos: []string{"http/1.1"}}
	var caErr error
	if c.clientCA != "" {
		config.ClientAuth = tls.RequireAndVerifyClientCert
		config.ClientCAs, caErr = readCA(c.clientCA)
	}
	if err := errors.Join(certErr, keyErr, caErr); err != nil {
		c.seen = nil // they may be readable in a moment, and look the same
		return err
	}
	pair, err := tls.X509KeyPair(cert, key)
	if err != nil {
		return fmt.Errorf("AUTHGEAR_TLS_CERT, AUTHGEAR_TLS_KEY: %w: they take the certificate, with those between it and its CA behind it, and its key, both as PEM", err)
	}
	why := unfit(pair.Leaf)
	if why != nil && c.fit() {
		if time.Now().Before(pair.Leaf.NotBefore) {
			c.due = pair.Leaf.NotBefore
		}
		return why
	}
	config.Certificates = []tls.Certificate{pair}
	c.inForce.Store(config)
	if why != nil { // there is no better one, and peers that do not look can go on
		c.log.Warn().Err(why).Msg("the certificate is in force, but peers will refuse it")
		return nil
	}
	c.log.Info().Time("until", pair.Leaf.NotAfter).Msg("the certificate is in force")
	return nil
}

// leaf returns the certificate in force; nil if there is none.
func (c *certificates) leaf() *x509.Certificate {
	if config := c.inForce.Load(); config != nil {
		return config.Certificates[0].Leaf
	}
	return nil
}

// fit tells whether a certificate is in force that peers take.
func (c *certificates) fit() bool {
	leaf := c.leaf()
	return leaf != nil && unfit(leaf) == nil
}

// unfit says why peers will refuse a certificate, whoever has signed it.
func unfit(leaf *x509.Certificate) error {
	const name = "AUTHGEAR_TLS_CERT"
	server := func(use x509.ExtKeyUsage) bool {
		return use == x509.ExtKeyUsageServerAuth || use == x509.ExtKeyUsageAny
	}
	switch now := time.Now(); {
	case now.After(leaf.NotAfter):
		return fmt.Errorf("%s: the certificate has expired at %s: renew it. Is the clock of this machine right?", name, leaf.NotAfter.UTC().Format(time.RFC3339))
	case now.Before(leaf.NotBefore):
		return fmt.Errorf("%s: the certificate is not good before %s: is the clock of this machine right?", name, leaf.NotBefore.UTC().Format(time.RFC3339))
	case len(leaf.ExtKeyUsage)+len(leaf.UnknownExtKeyUsage) > 0 && !slices.ContainsFunc(leaf.ExtKeyUsage, server):
		return fmt.Errorf("%s: the certificate is not for servers: is there one whose extendedKeyUsage has serverAuth?", name)
	}
	return nil
}

func readPEM(name, file string) ([]byte, error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	if block, _ := pem.Decode(text); block == nil {
		return nil, fmt.Errorf("%s: %s is no PEM file: it must have a line that begins with -----BEGIN", name, file)
	}
	return text, nil
}

// readCA returns the certificates in a file, all of which must be readable.
func readCA(file string) (*x509.CertPool, error) {
	const name = "AUTHGEAR_TLS_CLIENT_CA"
	text, err := readPEM(name, file)
	if err != nil {
		return nil, err
	}
	pool := x509.NewCertPool()
	for block, rest := pem.Decode(text); block != nil; block, rest = pem.Decode(rest) {
		certificate, err := x509.ParseCertificate(block.Bytes)
		if block.Type != "CERTIFICATE" || err != nil {
			return nil, fmt.Errorf("%s: a block %q in %s is not a certificate that can be read", name, block.Type, file)
		}
		pool.AddCert(certificate)
	}
	return pool, nil
}
