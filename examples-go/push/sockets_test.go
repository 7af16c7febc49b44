package push_test

import (
	"context"
	"net"
	"net/http"
	"path/filepath"
	"runtime"
	"testing"

	"libpush.example/go/internal/harness"
	"libpush.example/go/push"
)

// A service behind a proxy on the same machine listens on a Unix socket. Its connections are handed over like any
// other.
func TestUnixSocket(t *testing.T) {
	srv := startClean(t, push.Config{})
	path := filepath.Join(t.TempDir(), "service")
	listener, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	service := &http.Server{Handler: srv.Handler(push.Anyone)}
	go func() { _ = service.Serve(listener) }()
	defer service.Close()
	client := &http.Client{Transport: &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", path)
	}}}
	defer client.CloseIdleConnections()
	before := runtime.NumGoroutine()
	_, body := get(t, client, "http://service/?channel=c&transport=stream", nil)
	publish(t, srv, "c", "over a Unix socket")
	wantLine(t, body, "over a Unix socket")
	// The client's transport has two, and its context one.
	harness.Wait(t, "no goroutine of the service's", func() bool { return runtime.NumGoroutine() <= before+3 })
}

// HTTP/2 without TLS, as some proxies speak it to a service.
func TestUnencryptedHTTP2(t *testing.T) {
	srv := startClean(t, push.Config{})
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	protocols := new(http.Protocols)
	protocols.SetUnencryptedHTTP2(true)
	service := &http.Server{Handler: srv.Handler(push.Anyone), Protocols: protocols}
	go func() { _ = service.Serve(listener) }()
	defer service.Close()
	client := &http.Client{Transport: &http.Transport{Protocols: protocols}}
	defer client.CloseIdleConnections()
	response, body := get(t, client, "http://"+listener.Addr().String()+"/?channel=c&transport=sse", nil)
	if response.ProtoMajor != 2 || response.StatusCode != 200 {
		t.Fatal(response.Proto, response.Status)
	}
	publish(t, srv, "c", "over HTTP/2")
	wantLine(t, body, "data: over HTTP/2")
	response.Body.Close()
	harness.Wait(t, "it is gone", func() bool { return stats(t, srv).Connections == 0 })
}
