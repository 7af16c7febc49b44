package push_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"io"
	"math/big"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"

	"libpush.example/go/internal/harness"
	"libpush.example/go/push"
)

// certificates makes an authority and a certificate of it for localhost. It returns the options for these, and what
// clients trust.
func certificates(t *testing.T) (map[string]string, *x509.CertPool) {
	t.Helper()
	directory := t.TempDir()
	root, rootKey := issue(t, "an authority for tests", nil, nil)
	leaf, leafKey := issue(t, "localhost", root, rootKey)
	key, err := x509.MarshalPKCS8PrivateKey(leafKey)
	if err != nil {
		t.Fatal(err)
	}
	options := map[string]string{
		"tls_certificate": filepath.Join(directory, "fullchain.pem"), "tls_key": filepath.Join(directory, "privkey.pem"),
	}
	for path, block := range map[string]*pem.Block{
		options["tls_certificate"]: {Type: "CERTIFICATE", Bytes: leaf.Raw},
		options["tls_key"]:         {Type: "PRIVATE KEY", Bytes: key},
	} {
		if err := os.WriteFile(path, pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	trusted := x509.NewCertPool()
	trusted.AddCert(root)
	return options, trusted
}

// issue makes a certificate that another has signed, or itself.
func issue(t *testing.T, name string, by *x509.Certificate, byKey *ecdsa.PrivateKey) (*x509.Certificate, *ecdsa.PrivateKey) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: name},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour),
	}
	if by == nil {
		template.IsCA, template.BasicConstraintsValid, template.KeyUsage = true, true, x509.KeyUsageCertSign
		by, byKey = template, key
	} else {
		template.DNSNames, template.KeyUsage = []string{name}, x509.KeyUsageDigitalSignature
	}
	der, err := x509.CreateCertificate(rand.Reader, template, by, &key.PublicKey, byKey)
	if err != nil {
		t.Fatal(err)
	}
	certificate, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return certificate, key
}

// Go's clients at the library's own listener: both versions of TLS, all transports, sessions that resume.
func TestGoClientsAtTheLibrarysOwnTLS(t *testing.T) {
	options, trusted := certificates(t)
	for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
		t.Run(tls.VersionName(version), func(t *testing.T) {
			harness.CheckLeaks(t)
			srv := start(t, push.Config{Listen: []string{"tls:127.0.0.1:0"}, Options: options})
			_, port, err := net.SplitHostPort(strings.TrimPrefix(srv.Addresses()[0], "tls:"))
			if err != nil {
				t.Fatal(err)
			}
			at := "https://localhost:" + port + "/push?channel=news"
			config := &tls.Config{
				RootCAs: trusted, MinVersion: version, MaxVersion: version,
				ClientSessionCache: tls.NewLRUClientSessionCache(4),
			}
			// It would take HTTP/2.
			client := &http.Client{Transport: &http.Transport{TLSClientConfig: config, ForceAttemptHTTP2: true}}
			t.Cleanup(client.CloseIdleConnections)
			for _, resumes := range []bool{false, true, true} {
				response, body := get(t, client, at+"&wait=0", nil)
				_, _ = io.Copy(io.Discard, body)
				client.CloseIdleConnections()
				if got := response.TLS; response.ProtoMajor != 1 || got.Version != version || got.DidResume != resumes {
					t.Errorf("%s, resumed: %v", response.Proto, got.DidResume)
				}
			}
			harness.Wait(t, "the end of the polls", func() bool { return stats(t, srv).Polls == 0 })
			_, sse := get(t, client, at, http.Header{"Accept": {"text/event-stream"}})
			_, stream := get(t, client, at+"&transport=stream", nil)
			poll := polled(client, at)
			socket := dial(t, at, &websocket.DialOptions{HTTPClient: client})
			socket.SetReadLimit(1 << 20)
			harness.Wait(t, "all are here", func() bool {
				s := stats(t, srv)
				return s.Polls == 1 && s.SSE == 1 && s.Streams == 1 && s.WebSockets == 1
			})
			big := strings.Repeat("x", 200_000)
			publish(t, srv, "news", "hello")
			publish(t, srv, "news", big)
			wantLine(t, sse, "data: hello")
			wantLine(t, sse, "data: "+big)
			wantLine(t, stream, "hello")
			wantLine(t, stream, big)
			wantFrame(t, socket, "hello")
			wantFrame(t, socket, big)
			if answer := <-poll; !strings.Contains(answer, "hello") {
				t.Error(answer)
			}
		})
	}
}
