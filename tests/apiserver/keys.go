package main

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"math/big"
	"net"
	"os"
	"time"
)

// keys makes what this cluster signs with, once, and says how its administrator connects. The kubeconfig is written
// last: where it is, everything is.
func (f folder) keys(url string) (*tls.Config, error) {
	if _, err := os.Stat(f.file("admin.kubeconfig")); err != nil {
		if err := f.makeKeys(url); err != nil {
			return nil, err
		}
	}
	admin, err := tls.LoadX509KeyPair(f.file("admin.crt"), f.file("admin.key"))
	if err != nil {
		return nil, err
	}
	authority, err := os.ReadFile(f.file("ca.crt"))
	if err != nil {
		return nil, err
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(authority)
	return &tls.Config{RootCAs: roots, Certificates: []tls.Certificate{admin}}, nil
}

func (f folder) makeKeys(url string) error {
	authority := &x509.Certificate{
		Subject: pkix.Name{CommonName: "the tests' authority"}, KeyUsage: x509.KeyUsageCertSign,
		IsCA: true, BasicConstraintsValid: true,
	}
	signer, err := f.issue("ca", authority, authority, nil)
	if err != nil {
		return err
	}
	server := &x509.Certificate{
		Subject: pkix.Name{CommonName: "kube-apiserver"}, KeyUsage: x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, DNSNames: []string{"localhost", "kubernetes.default.svc"},
	}
	if _, err := f.issue("server", server, authority, signer); err != nil {
		return err
	}
	// This group may do everything, whatever RBAC says.
	admin := &x509.Certificate{
		Subject:     pkix.Name{CommonName: "admin", Organization: []string{"system:masters"}},
		KeyUsage:    x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	}
	if _, err := f.issue("admin", admin, authority, signer); err != nil {
		return err
	}
	if _, err := f.newKey("accounts"); err != nil {
		return err
	}
	return f.writeKubeconfig(url)
}

// issue writes a key and a certificate for it, signed by the parent's key (its own where there is none).
func (f folder) issue(name string, what, parent *x509.Certificate, signer *ecdsa.PrivateKey) (*ecdsa.PrivateKey, error) {
	key, err := f.newKey(name)
	if err != nil {
		return nil, err
	}
	if signer == nil {
		signer = key
	}
	now := time.Now()
	what.SerialNumber = big.NewInt(now.UnixNano())
	what.NotBefore, what.NotAfter = now.Add(-time.Hour), now.AddDate(10, 0, 0)
	der, err := x509.CreateCertificate(rand.Reader, what, parent, &key.PublicKey, signer)
	if err != nil {
		return nil, err
	}
	return key, f.writePEM(name+".crt", "CERTIFICATE", der)
}

func (f folder) newKey(name string) (*ecdsa.PrivateKey, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	der, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		return nil, err
	}
	return key, f.writePEM(name+".key", "EC PRIVATE KEY", der)
}

func (f folder) writePEM(name, kind string, der []byte) error {
	return os.WriteFile(f.file(name), pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600)
}

// writeKubeconfig in JSON, which every reader of YAML reads.
func (f folder) writeKubeconfig(url string) error {
	type fields = map[string]any
	named := func(name, what string, value fields) []fields { return []fields{{"name": name, what: value}} }
	config := fields{
		"apiVersion": "v1", "kind": "Config", "current-context": "tests",
		"clusters": named("tests", "cluster", fields{"server": url, "certificate-authority": f.file("ca.crt")}),
		"users": named("admin", "user", fields{
			"client-certificate": f.file("admin.crt"), "client-key": f.file("admin.key")}),
		"contexts": named("tests", "context", fields{"cluster": "tests", "user": "admin"}),
	}
	text, err := json.MarshalIndent(config, "", "  ")
	if err != nil {
		return err
	}
	return os.WriteFile(f.file("admin.kubeconfig"), text, 0o600)
}
