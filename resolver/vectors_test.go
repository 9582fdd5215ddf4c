package resolver

import (
	"encoding/json"
	"errors"
	"os"
	"testing"
	"time"
)

// A vectorFile has signed texts, the keys for them, and whether they are good.
type vectorFile struct {
	Groups []struct {
		Comment string
		Keys    []json.RawMessage
		Tests   []vector
	}
}

type vector struct {
	ID                   int
	Result, Comment, JWS string
}

// readVectors reads a file of testdata, which says where it is from.
func readVectors(t *testing.T, name string) (f vectorFile) {
	t.Helper()
	b, err := os.ReadFile("testdata/" + name)
	if err == nil {
		err = json.Unmarshal(b, &f)
	}
	if err != nil {
		t.Fatal(err)
	}
	return f
}

// verifyJWS is the signature layer alone: what JWT.Resolve does to a token, but for its
// type and its claims, which a JWS need not have.
func verifyJWS(jwks []json.RawMessage, text string) error {
	doc, err := json.Marshal(map[string]any{"keys": jwks})
	if err != nil {
		return err
	}
	if !(Credential{Bearer, text}).IsJWT() {
		return ErrNotMine
	}
	t, err := splitToken(text)
	if err != nil {
		return err
	}
	var h header
	if err := new(work).read(t.header, &h); err != nil {
		return err
	}
	h.Type = "at+jwt"
	if err := check(headerChecks, new(JWT), &h, time.Now(), nil); err != nil {
		return err
	}
	if _, err := new(work).decode(t.claims); err != nil {
		return err
	}
	signature, err := new(work).decode(t.signature)
	if err != nil {
		return err
	}
	set, err := parseKeys(doc)
	if err != nil {
		return err
	}
	key := set.byID[h.KeyID]
	if key == nil {
		return invalid(UnknownKey, "")
	}
	return t.verify(key, signature)
}

// algorithmOf returns the alg of a JWS; nothing if it has none that can be read.
func algorithmOf(text string) string {
	t, _ := splitToken(text)
	b, _ := canonical.DecodeString(t.header)
	var h struct{ Alg string }
	json.Unmarshal(b, &h)
	return h.Alg
}

// The signature layer is run against public vectors. Where it disagrees with one, it says
// why here. What is signed by another algorithm than RS256 must be refused, whatever the
// vector says: RFC 8725 §3.1.
func TestVectors(t *testing.T) {
	for _, f := range []struct {
		name     string
		vectors  int
		explains map[int]string
	}{
		{"rfc7515.json", 7, map[int]string{
			2: "A.2 names no key: a token must say which of the issuer's keys it is signed with. Its signature is verified below",
			6: "A.6 is in JSON serialization: RFC 7519 §1 has JWTs in compact serialization alone",
		}},
		{"wycheproof_json_web_signature.json", 401, nil},
		{"wycheproof_json_web_key.json", 26, map[int]string{
			7: "the key was made by a flawed smart card (ROCA), which its modulus shows. Authgear makes its keys itself, by crypto/rsa, and a key that the issuer has published is its to answer for",
		}},
	} {
		t.Run(f.name, func(t *testing.T) {
			counts, explained := map[string]int{}, 0
			for _, g := range readVectors(t, f.name).Groups {
				for _, v := range g.Tests {
					err := verifyJWS(g.Keys, v.JWS)
					outcome := "valid"
					if err != nil {
						outcome = "invalid"
					}
					alg := algorithmOf(v.JWS)
					why, expected := f.explains[v.ID]
					switch {
					case expected && outcome == v.Result:
						t.Errorf("%d, %s: we agree, so there is nothing to explain: %s", v.ID, v.Comment, why)
					case expected:
						explained++
						t.Logf("%d, %s, is said to be %s. We: %v. Why: %s", v.ID, v.Comment, v.Result, err, why)
					case alg != "RS256" && err == nil:
						t.Errorf("%d, %s: %s is accepted", v.ID, v.Comment, alg)
					case alg != "RS256" && v.Result == "valid":
						counts["valid by another algorithm, refused"]++
					case outcome != v.Result:
						t.Errorf("%d, %s (%s, %s): %v, want that it is %s", v.ID, v.Comment, g.Comment, alg, err, v.Result)
					case alg != "RS256":
						counts["invalid by another algorithm, refused"]++
					default:
						counts[v.Result+", and we agree"]++
					}
				}
			}
			total := explained
			for _, n := range counts {
				total += n
			}
			t.Logf("%d vectors: %v, %d disagreements explained", total, counts, explained)
			if total != f.vectors || explained != len(f.explains) {
				t.Errorf("%d vectors and %d disagreements, want %d and %d", total, explained, f.vectors, len(f.explains))
			}
		})
	}
}

// RFC 7515 A.2 with its key, whose name it does not tell; and with one bit less.
func TestTheSignatureOfRFC7515A2(t *testing.T) {
	for _, g := range readVectors(t, "rfc7515.json").Groups {
		if g.Comment != "A.2 RS256" {
			continue
		}
		var jwk map[string]any
		if err := json.Unmarshal(g.Keys[0], &jwk); err != nil {
			t.Fatal(err)
		}
		jwk["kid"] = "it"
		set, err := parseKeys([]byte(jwks(jwk)))
		if err != nil {
			t.Fatal(err)
		}
		jws, err1 := splitToken(g.Tests[0].JWS)
		signature, err2 := new(work).decode(jws.signature)
		if err := errors.Join(err1, err2, jws.verify(set.byID["it"], signature)); err != nil {
			t.Errorf("A.2: %v", err)
		}
		signature[9] ^= 1
		if err := jws.verify(set.byID["it"], signature); !errors.Is(err, ErrInvalid) {
			t.Errorf("A.2 with another signature: %v", err)
		}
		return
	}
	t.Error("A.2 is missing")
}
