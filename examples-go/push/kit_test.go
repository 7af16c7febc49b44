package push_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"

	"libpush.example/go/internal/harness"
	"libpush.example/go/push"
)

// start starts a server that logs into the test and stops with it.
func start(t testing.TB, config push.Config) *push.Server {
	t.Helper()
	if config.Logger == nil {
		config.Logger = slog.New(slog.NewTextHandler(t.Output(), nil))
	}
	srv := begin(t, config)
	t.Cleanup(func() {
		stopWithin(t, srv, 5*time.Second)
	})
	return srv
}

// begin starts a server that the test stops itself. Even on a slow machine no client gets a ping, no poll an empty answer,
// and no request too little time, unless the test asks for it.
func begin(t testing.TB, config push.Config) *push.Server {
	t.Helper()
	options := map[string]string{"heartbeat": "10m", "poll_timeout": "10m", "head_timeout": "10m"}
	maps.Copy(options, config.Options)
	config.Options = options
	srv, err := push.Start(config)
	if err != nil {
		t.Fatal(err)
	}
	return srv
}

// startClean is start for a test that must leave nothing behind.
func startClean(t *testing.T, config push.Config) *push.Server {
	t.Helper()
	harness.CheckLeaks(t)
	return start(t, config)
}

// beginClean is begin for a test that must leave nothing behind.
func beginClean(t *testing.T, config push.Config) *push.Server {
	t.Helper()
	harness.CheckLeaks(t)
	return begin(t, config)
}

// stopWithin stops a server and gives its clients this time. On a busy machine the call may return before the server
// has stopped.
func stopWithin(t testing.TB, srv *push.Server, limit time.Duration) {
	t.Helper()
	err := srv.Stop(limited(t, limit))
	if errors.Is(err, context.DeadlineExceeded) {
		err = srv.Stop(deadline(t))
	}
	if err != nil {
		t.Errorf("Stop: %v", err)
	}
}

// serve mounts a handler at /push of a plain HTTP/1.1 server.
func serve(t testing.TB, handler http.Handler) *httptest.Server {
	t.Helper()
	mux := http.NewServeMux()
	mux.Handle("/push", handler)
	service := httptest.NewServer(mux)
	t.Cleanup(service.Close)
	return service
}

func stats(t testing.TB, srv *push.Server) push.Stats {
	t.Helper()
	s, err := srv.Stats()
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func publish(t testing.TB, srv *push.Server, channel, data string) {
	t.Helper()
	if err := srv.Publish(channel, []byte(data)); err != nil {
		t.Fatal(err)
	}
}

func deadline(t testing.TB) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), harness.Patience)
	t.Cleanup(cancel)
	return ctx
}

// dial opens a WebSocket; `of` is the http URL.
func dial(t testing.TB, of string, options *websocket.DialOptions) *websocket.Conn {
	t.Helper()
	conn, _, err := websocket.Dial(deadline(t), "ws"+strings.TrimPrefix(of, "http"), options)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.CloseNow() })
	return conn
}

func wantFrame(t testing.TB, conn *websocket.Conn, want string) {
	t.Helper()
	_, got, err := conn.Read(deadline(t))
	if err != nil {
		t.Fatalf("waiting for %q: %v", want, err)
	}
	if string(got) != want {
		t.Fatalf("got %q, want %q", got, want)
	}
}

// get sends a request as an HTTP client would. The body must be read within the test's time.
func get(t testing.TB, client *http.Client, url string, header http.Header) (*http.Response, *bufio.Reader) {
	t.Helper()
	request, err := http.NewRequestWithContext(deadline(t), http.MethodGet, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	for name, values := range header {
		request.Header[name] = values
	}
	response, err := client.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { response.Body.Close() })
	return response, bufio.NewReader(response.Body)
}

// polled sends a poll, and passes on the answer when it comes.
func polled(client *http.Client, url string) <-chan string {
	answer := make(chan string, 1)
	go func() {
		response, err := client.Get(url)
		if err != nil {
			answer <- err.Error()
			return
		}
		defer response.Body.Close()
		body, _ := io.ReadAll(response.Body)
		answer <- string(body)
	}()
	return answer
}

// wantLine reads lines until one has the text.
func wantLine(t testing.TB, body *bufio.Reader, text string) string {
	t.Helper()
	for {
		line, err := body.ReadString('\n')
		if strings.Contains(line, text) {
			return line
		}
		if err != nil {
			t.Fatalf("waiting for %q: %v", text, err)
		}
	}
}

// rawStream opens an NDJSON stream over a bare connection, so that thousands cost little.
func rawStream(address, query string) (net.Conn, *bufio.Reader, error) {
	conn, err := net.Dial("tcp", address)
	if err != nil {
		return nil, nil, err
	}
	_ = conn.SetDeadline(time.Now().Add(2 * harness.Patience))
	fmt.Fprintf(conn, "GET /push?%s&transport=stream HTTP/1.0\r\nHost: %s\r\n\r\n", query, address)
	lines := bufio.NewReaderSize(conn, 512)
	status, err := lines.ReadString('\n')
	if err == nil && !strings.Contains(status, " 200 ") {
		err = fmt.Errorf("refused: %s", status)
	}
	for line := ""; err == nil && line != "\r\n"; {
		line, err = lines.ReadString('\n')
	}
	if err != nil {
		conn.Close()
		return nil, nil, err
	}
	return conn, lines, nil
}

// event waits for the next event of a kind.
func event(t testing.TB, events <-chan push.Event, kind push.EventKind) push.Event {
	t.Helper()
	limit := time.After(harness.Patience)
	for {
		select {
		case e, ok := <-events:
			if !ok {
				t.Fatalf("the events ended; waiting for %s", kind)
			}
			if e.Kind == kind {
				return e
			}
		case <-limit:
			t.Fatalf("no event %s", kind)
		}
	}
}

func limited(t testing.TB, limit time.Duration) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	t.Cleanup(cancel)
	return ctx
}

// quiet is a logger that takes no lines.
var quiet = slog.New(slog.DiscardHandler)
