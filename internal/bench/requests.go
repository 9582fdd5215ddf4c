//go:build linux

package main

import (
	"encoding/base64"
	"fmt"
	"strings"
)

// requests are rendered before they are sent, so that the load costs little.
type requests struct {
	text []byte
	ends []int
}

func (r *requests) add(text string) {
	r.text = append(r.text, text...)
	r.ends = append(r.ends, len(r.text))
}

func (r *requests) get(i int) []byte {
	begin := 0
	if i > 0 {
		begin = r.ends[i-1]
	}
	return r.text[begin:r.ends[i]]
}

func (r *requests) len() int { return len(r.ends) }

// question is what nginx asks for a request with this credential, by the shipped
// nginx.conf.
func question(path, credential string) string {
	return "GET " + path + " HTTP/1.1\r\n" +
		"Host: authgear-forward-auth\r\n" +
		"X-Original-URL: https://app.example.com/api/items?page=2\r\n" +
		"X-Original-Method: GET\r\n" +
		"X-Forwarded-For: 203.0.113.7\r\n" +
		"User-Agent: Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0\r\n" +
		"Accept: application/json\r\n" +
		credential + "\r\n\r\n"
}

// A kind is a kind of credential, as the field that carries the i-th one.
type kind struct {
	name  string
	field func(i int) string
}

var (
	opaque = kind{"opaque token", func(i int) string { return "Authorization: Bearer " + hex32(i) }}
	cookie = kind{"session cookie", func(i int) string { return "Cookie: session=" + userID(i) + "." + hex32(i) }}
)

func jwts(tokens []string) kind {
	return kind{"JWT", func(i int) string { return "Authorization: Bearer " + tokens[i] }}
}

// questions are about n credentials.
func questions(k kind, path string, n int) *requests {
	r := &requests{}
	for i := range n {
		r.add(question(path, k.field(i)))
	}
	return r
}

// hex32 are 32 characters that tell i, and look as random as those of a token.
func hex32(i int) string { return fmt.Sprintf("%016x%016x", mix(uint64(i)), mix(^uint64(i))) }

func userID(i int) string { return userOf(hex32(i)) }

// userOf returns the id of the user of an opaque token. Each token has another one:
// the service remembers no more than some new tokens of one user.
func userOf(token string) string {
	return token[:8] + "-" + token[8:12] + "-4" + token[13:16] + "-8" + token[17:20] + "-" + token[20:32]
}

// mix is the finalizer of SplitMix64, a bijection.
func mix(x uint64) uint64 {
	x += 0x9e3779b97f4a7c15
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	return x ^ x>>31
}

// badTokens look like good ones: in turn one that Authgear does not know, a JWT by a
// key that there is not, and one with a wrong signature. real is a good JWT.
func badTokens(real string, n int) *requests {
	r := &requests{}
	parts := strings.Split(real, ".")
	for i := range n {
		var token string
		switch id := hex32(i); i % 3 {
		case 0:
			token = unknown + id[len(unknown):]
		case 1:
			token = base64.RawURLEncoding.EncodeToString([]byte(`{"alg":"RS256","kid":"`+id+`","typ":"at+jwt"}`)) + "." + parts[1] + "." + parts[2]
		case 2:
			signature := []byte(parts[2])
			copy(signature[8:], id)
			token = parts[0] + "." + parts[1] + "." + string(signature)
		}
		r.add(question("/nginx", "Authorization: Bearer "+token))
	}
	return r
}
