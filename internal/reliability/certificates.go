package main

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"math/big"
	"net"
	"os"
	"time"
)

// What Authgear may show. The service trusts all of them, as far as it is for that to say.
var (
	valid     = certificate(time.Now().Add(time.Hour), net.IPv4(127, 0, 0, 1))
	expired   = certificate(time.Now().Add(-time.Hour), net.IPv4(127, 0, 0, 1))
	otherName = certificate(time.Now().Add(time.Hour), net.IPv4(192, 0, 2, 1))
)

func certificate(until time.Time, ip net.IP) tls.Certificate {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		panic(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(until.UnixNano()),
		NotBefore:    until.Add(-24 * time.Hour),
		NotAfter:     until,
		IPAddresses:  []net.IP{ip},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		panic(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}

// writeRoots writes what the service trusts to a file of its own: another service may be
// reading what it trusts.
func writeRoots(dir string) (file string, err error) {
	f, err := os.CreateTemp(dir, "roots-*.pem")
	if err != nil {
		return "", err
	}
	for _, c := range []tls.Certificate{valid, expired, otherName} {
		err = errors.Join(err, pem.Encode(f, &pem.Block{Type: "CERTIFICATE", Bytes: c.Certificate[0]}))
	}
	return f.Name(), errors.Join(err, f.Close())
}

// changed makes Authgear show another certificate, to those who come now.
func changed(to *tls.Certificate) func(*faulty) error {
	return func(f *faulty) error {
		f.certificate.Store(to)
		f.between.reset()
		return nil
	}
}
