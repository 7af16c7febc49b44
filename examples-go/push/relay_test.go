package push_test

import (
	"compress/gzip"
	"crypto/tls"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"libpush.example/go/internal/harness"
	"libpush.example/go/push"
)

// A deadline for writes resets an HTTP/2 stream even while nothing is written. So it must not outlive a write, and the
// service's own deadline must not apply to a client that waits.
func TestQuietClientsOverHTTP2OutliveEveryDeadline(t *testing.T) {
	harness.CheckLeaks(t)
	const limit = 10 * time.Second
	t.Cleanup(push.SetWriteLimit(limit))
	srv := start(t, push.Config{Options: map[string]string{"heartbeat": "10m"}})
	service := httptest.NewUnstartedServer(srv.Handler(push.Anyone))
	service.EnableHTTP2 = true
	service.Config.WriteTimeout = limit
	service.StartTLS()
	t.Cleanup(service.Close)

	at := service.URL + "/push?channel=c"
	_, sse := get(t, service.Client(), at+"&transport=sse", nil)
	_, stream := get(t, service.Client(), at+"&transport=stream", nil)
	publish(t, srv, "c", "first")
	poll := polled(service.Client(), service.URL+"/push?channel=d&transport=poll")
	harness.Wait(t, "all are here", func() bool { return stats(t, srv).Subscriptions == 3 })
	time.Sleep(limit + time.Second)
	publish(t, srv, "c", "second")
	publish(t, srv, "d", "for the poll")
	wantLine(t, sse, "data: first")
	wantLine(t, sse, "data: second")
	wantLine(t, stream, "first")
	wantLine(t, stream, "second")
	if answer := <-poll; !strings.Contains(answer, "for the poll") {
		t.Error(answer)
	}
}

// A client behind TLS that is gone is let go, even if the library does not read from it because nobody receives its
// messages.
func TestAClientThatIsGoneWhileNobodyTakesItsMessages(t *testing.T) {
	harness.CheckLeaks(t)
	t.Cleanup(push.SetWriteLimit(5 * time.Second))
	srv := start(t, push.Config{Options: map[string]string{"outbox": "64MB"}})
	_ = srv.Events() // and never received from
	service, _ := secure(t, srv.Handler(push.Anyone))
	roots := service.Client().Transport.(*http.Transport).TLSClientConfig.RootCAs
	conn, err := tls.Dial("tcp", service.Listener.Addr().String(), &tls.Config{RootCAs: roots, ServerName: "example.com"})
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	fmt.Fprint(conn, "GET /push?channel=c HTTP/1.1\r\nHost: h\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"+
		"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n")
	harness.Wait(t, "it is here", func() bool { return stats(t, srv).WebSockets == 1 })
	// It sends until nothing is read any more and it has to stop,
	frames := []byte(strings.Repeat("\x82\xfe\x10\x00\x00\x00\x00\x00"+strings.Repeat("x", 4096), 16))
	for err == nil {
		_ = conn.SetWriteDeadline(time.Now().Add(300 * time.Millisecond))
		_, err = conn.Write(frames)
	}
	// and does not read.
	for range 12 {
		publish(t, srv, "c", strings.Repeat("y", 900_000))
	}
	harness.Wait(t, "it is gone", func() bool { return stats(t, srv).WebSockets == 0 })
}

// unwrapping has Unwrap, so a flush bypasses the compression.
type unwrapping struct{ compressed }

func (u unwrapping) Unwrap() http.ResponseWriter { return u.ResponseWriter }

// flushing is a compressing middleware that works correctly.
type flushing struct{ compressed }

func (f flushing) Flush() {
	_ = f.gzip.Flush()
	f.ResponseWriter.(http.Flusher).Flush()
}

// A stream that a middleware's compression would hold back is refused. A stream that it passes on flows.
func TestCompressedStreamsOverHTTP2(t *testing.T) {
	harness.CheckLeaks(t)
	var log lockedBuffer
	srv := start(t, push.Config{Logger: slog.New(slog.NewTextHandler(&log, nil))})
	subscribers := srv.Handler(push.Anyone)
	service, _ := secure(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Encoding", "gzip")
		packer := gzip.NewWriter(w)
		defer packer.Close()
		plain := compressed{w, packer}
		if r.URL.Query().Has("flushing") {
			subscribers.ServeHTTP(flushing{plain}, r)
		} else {
			subscribers.ServeHTTP(unwrapping{plain}, r)
		}
	}))
	defer service.Client().CloseIdleConnections()
	request, err := http.NewRequestWithContext(deadline(t), http.MethodGet, service.URL+"/push?channel=c&transport=sse", nil)
	if err != nil {
		t.Fatal(err)
	}
	response, err := service.Client().Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil || response.StatusCode != 500 || !strings.HasPrefix(string(body), `{"error":`) {
		t.Errorf("%d %q %v", response.StatusCode, body, err)
	}
	again, err := service.Client().Get(service.URL + "/push?channel=c&transport=stream")
	if err != nil {
		t.Fatal(err)
	}
	again.Body.Close()
	if want := "push_test.unwrapping"; strings.Count(log.String(), want) != 1 {
		t.Errorf("%q is not in the log once: %s", want, &log)
	}
	_, flows := get(t, service.Client(), service.URL+"/push?channel=c&transport=sse&flushing", nil)
	publish(t, srv, "c", "at once")
	wantLine(t, flows, "data: at once")
}
