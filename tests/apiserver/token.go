package main

import (
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"os"
	"time"
)

// leeway is how long the server accepts a token that has expired (go-jose's default).
const leeway = time.Minute

// token signs what TokenRequest would, for an account that the caller names with its uid, but for any time: the server
// itself gives ten minutes at least.
func (f folder) token(namespace, name, uid string, lives time.Duration) (string, error) {
	text, err := os.ReadFile(f.file("accounts.key"))
	if err != nil {
		return "", err
	}
	block, _ := pem.Decode(text)
	if block == nil {
		return "", fmt.Errorf("accounts.key holds no key")
	}
	key, err := x509.ParseECPrivateKey(block.Bytes)
	if err != nil {
		return "", err
	}
	type fields = map[string]any
	const issuer = "https://kubernetes.default.svc"
	// It is refused when the leeway is over too.
	ends := time.Now().Add(lives - leeway)
	begins := ends.Add(-time.Hour).Unix()
	part := func(value fields) string {
		// Maps of texts and numbers always have a form.
		text, _ := json.Marshal(value)
		return base64.RawURLEncoding.EncodeToString(text)
	}
	signed := part(fields{"alg": "ES256"}) + "." + part(fields{
		"iss": issuer, "aud": []string{issuer}, "sub": "system:serviceaccount:" + namespace + ":" + name,
		"iat": begins, "nbf": begins, "exp": ends.Unix(),
		"kubernetes.io": fields{"namespace": namespace, "serviceaccount": fields{"name": name, "uid": uid}},
	})
	digest := sha256.Sum256([]byte(signed))
	r, s, err := ecdsa.Sign(rand.Reader, key, digest[:])
	if err != nil {
		return "", err
	}
	raw := make([]byte, 64)
	r.FillBytes(raw[:32])
	s.FillBytes(raw[32:])
	return signed + "." + base64.RawURLEncoding.EncodeToString(raw), nil
}
