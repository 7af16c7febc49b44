package push_test

import (
	"compress/gzip"
	"io"
	"log/slog"
	"net/http"
	"strings"
	"testing"

	"libpush.example/go/push"
)

// compressed is the ResponseWriter of a compressing middleware, as many services have it: only Write, and no Unwrap.
type compressed struct {
	http.ResponseWriter
	gzip *gzip.Writer
}

func (c compressed) Write(bytes []byte) (int, error) { return c.gzip.Write(bytes) }

// An answer that a middleware compresses must arrive whole, and the log must name the type that is in the way.
func TestBehindACompressingMiddleware(t *testing.T) {
	var log lockedBuffer
	srv := start(t, push.Config{Logger: slog.New(slog.NewTextHandler(&log, nil))})
	subscribers := srv.Handler(push.Anyone)
	service := serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Encoding", "gzip")
		packer := gzip.NewWriter(w)
		defer packer.Close()
		subscribers.ServeHTTP(compressed{w, packer}, r)
	}))
	for transport, status := range map[string]int{"sse": 500, "ws": 400} {
		response, err := http.Get(service.URL + "/push?channel=news&transport=" + transport) // unpacks it
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(response.Body)
		response.Body.Close()
		if err != nil || response.StatusCode != status || !strings.HasPrefix(string(body), `{"error":`) {
			t.Errorf("%s: %d %q %v", transport, response.StatusCode, body, err)
		}
	}
	// The handshake is complete, so neither the client nor a proxy in front is at fault.
	request, _ := http.NewRequestWithContext(t.Context(), http.MethodGet, service.URL+"/push?channel=news", nil)
	for name, value := range map[string]string{"Upgrade": "websocket", "Connection": "Upgrade",
		"Sec-WebSocket-Version": "13", "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ=="} {
		request.Header.Set(name, value)
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	if body, _ := io.ReadAll(response.Body); response.StatusCode != 400 || !strings.Contains(string(body), "can't take this connection over") {
		t.Errorf("%d %q", response.StatusCode, body)
	}
	if want := "push_test.compressed, can't be flushed; give it a method Unwrap()"; !strings.Contains(log.String(), want) {
		t.Errorf("%q is not in the log: %s", want, &log)
	}
}
