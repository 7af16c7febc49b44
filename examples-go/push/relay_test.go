package push_test

import (
	"compress/gzip"
	"context"
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

// A deadline for writes resets an HTTP/2 stream also while nothing is written: it must not outlive a write, and the
// service's own must not concern a client that waits.
func TestQuietClientsOverHTTP2OutliveEveryDeadline(t *testing.T) {
	harness.CheckLeaks(t)
	t.Cleanup(push.SetWriteLimit(200 * time.Millisecond))
	srv := start(t, push.Config{Options: map[string]string{"heartbeat": "10m"}})
	service := httptest.NewUnstartedServer(srv.Handler(push.Anyone))
	service.EnableHTTP2 = true
	service.Config.WriteTimeout = 300 * time.Millisecond
	service.StartTLS()
	t.Cleanup(service.Close)

	at := service.URL + "/push?channel=c"
	_, sse := get(t, service.Client(), at+"&transport=sse", nil)
	_, stream := get(t, service.Client(), at+"&transport=stream", nil)
	publish(t, srv, "c", "first")
	poll := polled(service.Client(), service.URL+"/push?channel=d&transport=poll")
	harness.Wait(t, "all are here", func() bool { return stats(t, srv).Subscriptions == 3 })
	time.Sleep(time.Second)
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

// unwrapping can be unwrapped, and so leads around the compression when it is flushed.
type unwrapping struct{ compressed }

func (u unwrapping) Unwrap() http.ResponseWriter { return u.ResponseWriter }

// flushing is a compressing middleware as it should be.
type flushing struct{ compressed }

func (f flushing) Flush() {
	_ = f.gzip.Flush()
	f.ResponseWriter.(http.Flusher).Flush()
}

// A stream that a middleware's compression would hold back is refused; one that it passes on flows.
func TestCompressedStreamsOverHTTP2(t *testing.T) {
	harness.CheckLeaks(t)
	var log lines
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
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, service.URL+"/push?channel=c&transport=sse", nil)
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
	if want := "push_test.unwrapping"; strings.Count(log.String(), want) != 1 {
		t.Errorf("%q is not in the log once: %s", want, &log)
	}
	_, flows := get(t, service.Client(), service.URL+"/push?channel=c&transport=sse&flushing", nil)
	publish(t, srv, "c", "at once")
	wantLine(t, flows, "data: at once")
}
