package push_test

import (
	"bufio"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/coder/websocket"

	"libpush.example/go/internal/harness"
	"libpush.example/go/push"
)

// secure serves at /push over TLS, with HTTP/2 unless the client does not want it. It records the protocol of each
// request.
func secure(t *testing.T, handler http.Handler) (*httptest.Server, *seen) {
	requests := &seen{connections: map[string]int{}}
	mux := http.NewServeMux()
	mux.HandleFunc("/push", func(w http.ResponseWriter, r *http.Request) {
		requests.add(r)
		handler.ServeHTTP(w, r)
	})
	service := httptest.NewUnstartedServer(mux)
	service.EnableHTTP2 = true
	service.StartTLS()
	t.Cleanup(func() {
		// A test that fails leaves clients behind, and Close waits for them.
		service.CloseClientConnections()
		service.Close()
	})
	return service, requests
}

// seen are the connections that requests came over.
type seen struct {
	mu          sync.Mutex
	connections map[string]int
	major       int
}

func (s *seen) add(r *http.Request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.connections[r.RemoteAddr]++
	s.major = r.ProtoMajor
}

func (s *seen) count() (connections, major int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.connections), s.major
}

// oldClient is a client that speaks TLS and no HTTP/2.
func oldClient(service *httptest.Server) *http.Client {
	roots := service.Client().Transport.(*http.Transport).TLSClientConfig.RootCAs
	return &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots}}}
}

func TestEveryTransportOverTLS(t *testing.T) {
	srv := startClean(t, push.Config{})
	events := srv.Events()
	service, requests := secure(t, srv.Handler(push.Anyone))
	for _, test := range []struct {
		name   string
		client *http.Client
		major  int
	}{{"HTTP/1.1", oldClient(service), 1}, {"HTTP/2", service.Client(), 2}} {
		defer test.client.CloseIdleConnections()
		at := service.URL + "/push?channel=news"
		response, sse := get(t, test.client, at, http.Header{"Accept": {"text/event-stream"}})
		if response.ProtoMajor != test.major || response.Header.Get("Push-Position") == "" ||
			response.Header.Get("Content-Type") != "text/event-stream" {
			t.Errorf("%s: %s %v", test.name, response.Proto, response.Header)
		}
		_, stream := get(t, test.client, at+"&transport=stream", nil)
		poll := polled(test.client, at)
		harness.Wait(t, "a poll", func() bool { return stats(t, srv).Polls == 1 })
		if _, major := requests.count(); major != test.major {
			t.Errorf("%s: the service saw %d", test.name, major)
		}
		big := strings.Repeat("x", 200_000)
		publish(t, srv, "news", "hello over "+test.name)
		publish(t, srv, "news", big)
		wantLine(t, sse, "data: hello over "+test.name)
		wantLine(t, sse, "data: "+big)
		wantLine(t, stream, "hello over "+test.name)
		wantLine(t, stream, big)
		if answer := <-poll; !strings.Contains(answer, "hello over "+test.name) {
			t.Error(answer)
		}
		harness.Wait(t, "the end of the poll", func() bool { return stats(t, srv).Polls == 0 })
	}

	socket := dial(t, service.URL+"/push?channel=ws", &websocket.DialOptions{HTTPClient: oldClient(service)})
	socket.SetReadLimit(1 << 20)
	long := strings.Repeat("y", 60_000)
	if err := socket.Write(t.Context(), websocket.MessageText, []byte(long)); err != nil {
		t.Fatal(err)
	}
	e := event(t, events, push.Received)
	if string(e.Data) != long {
		t.Errorf("%d bytes came of %d", len(e.Data), len(long))
	}
	if err := srv.Send(e.Conn, e.Data); err != nil {
		t.Fatal(err)
	}
	wantFrame(t, socket, long)
	if err := srv.Close(e.Conn, 4000, "enough"); err != nil {
		t.Fatal(err)
	}
	var closed websocket.CloseError
	if _, _, err := socket.Read(deadline(t)); !errors.As(err, &closed) || closed.Code != 4000 {
		t.Error(err)
	}
	harness.Wait(t, "the WebSocket is gone", func() bool { return stats(t, srv).WebSockets == 0 })
}

// A client's offers reach the library, on a socket that is handed over and through TLS.
func TestCompressionIsPassedOn(t *testing.T) {
	srv := startClean(t, push.Config{Options: map[string]string{"compression": "true"}})
	events := srv.Events()
	handler := srv.Handler(push.Anyone)
	plain := serve(t, handler)
	overTLS, _ := secure(t, handler)
	long := strings.Repeat(`{"price":10}`, 1000)
	for _, test := range []struct {
		service *httptest.Server
		client  *http.Client
	}{{plain, plain.Client()}, {overTLS, oldClient(overTLS)}} {
		defer test.client.CloseIdleConnections()
		options := &websocket.DialOptions{HTTPClient: test.client, CompressionMode: websocket.CompressionContextTakeover}
		at := "ws" + strings.TrimPrefix(test.service.URL, "http") + "/push?channel=news"
		socket, response, err := websocket.Dial(deadline(t), at, options)
		if err != nil {
			t.Fatal(err)
		}
		if agreed := response.Header.Get("Sec-WebSocket-Extensions"); !strings.HasPrefix(agreed, "permessage-deflate") {
			t.Errorf("%q", agreed)
		}
		publish(t, srv, "news", long)
		wantFrame(t, socket, long)
		if err := socket.Write(t.Context(), websocket.MessageText, []byte(long)); err != nil {
			t.Fatal(err)
		}
		if e := event(t, events, push.Received); string(e.Data) != long {
			t.Errorf("%d bytes came of %d", len(e.Data), len(long))
		}
		socket.CloseNow()
	}
	harness.Wait(t, "the WebSockets are gone", func() bool { return stats(t, srv).WebSockets == 0 })
}

// One connection has 200 streams, and none is left when the client goes.
func TestManyStreamsOverOneHTTP2Connection(t *testing.T) {
	srv := startClean(t, push.Config{})
	service, requests := secure(t, srv.Handler(push.Anyone))
	client := service.Client()
	const count = 200
	bodies := make([]*bufio.Reader, count)
	closers := make([]io.Closer, count)
	for i := range bodies {
		response, body := get(t, client, service.URL+"/push?channel=c", http.Header{"Accept": {"text/event-stream"}})
		bodies[i], closers[i] = body, response.Body
	}
	publish(t, srv, "c", "to all")
	for _, body := range bodies {
		wantLine(t, body, "data: to all")
	}
	if connections, major := requests.count(); connections != 1 || major != 2 {
		t.Errorf("%d connections, HTTP/%d", connections, major)
	}
	for _, closer := range closers {
		closer.Close()
	}
	harness.Wait(t, "all have gone", func() bool { return stats(t, srv).Connections == 0 })
	client.CloseIdleConnections()
}

// A client that stops reading is closed with 4429 and does not hold up the others, over each kind of connection.
func TestSlowClientsBehindTLS(t *testing.T) {
	srv := startClean(t, push.Config{Options: map[string]string{"outbox": "64KB", "history_count": "10"}})
	service, _ := secure(t, srv.Handler(push.Anyone))
	for _, client := range []*http.Client{oldClient(service), service.Client()} {
		before := stats(t, srv).SlowClosed
		slow, _ := get(t, client, service.URL+"/push?channel=c&transport=stream", nil)
		quick, reader := get(t, oldClient(service), service.URL+"/push?channel=c&transport=stream", nil)
		payload := strings.Repeat("z", 32<<10)
		for i := range 400 {
			publish(t, srv, "c", fmt.Sprint(payload, i, "."))
			wantLine(t, reader, fmt.Sprint("z", i, "."))
		}
		harness.Wait(t, "the slow one is closed", func() bool { return stats(t, srv).SlowClosed > before })
		slow.Body.Close()
		// It reads no more. It must not be the slow one of the next round.
		quick.Body.Close()
		client.CloseIdleConnections()
	}
}

func TestStopEndsClientsBehindTLS(t *testing.T) {
	srv := beginClean(t, push.Config{})
	service, _ := secure(t, srv.Handler(push.Anyone))
	socket := dial(t, service.URL+"/push?channel=c", &websocket.DialOptions{HTTPClient: oldClient(service)})
	_, events := get(t, service.Client(), service.URL+"/push?channel=c&transport=sse", nil)
	// These read nothing, and one does not close its side.
	stuck, _ := get(t, service.Client(), service.URL+"/push?channel=c&transport=sse", nil)
	roots := service.Client().Transport.(*http.Transport).TLSClientConfig.RootCAs
	bare, err := tls.Dial("tcp", service.Listener.Addr().String(), &tls.Config{RootCAs: roots, ServerName: "example.com"})
	if err != nil {
		t.Fatal(err)
	}
	defer bare.Close()
	fmt.Fprint(bare, "GET /push?channel=c&transport=stream HTTP/1.1\r\nHost: h\r\n\r\n")
	harness.Wait(t, "four clients", func() bool { return stats(t, srv).Connections == 4 })
	publish(t, srv, "c", strings.Repeat("x", 900_000))
	publish(t, srv, "c", "last words")

	read := make(chan error, 1)
	go func() {
		socket.SetReadLimit(1 << 20)
		for {
			if _, _, err := socket.Read(deadline(t)); err != nil {
				read <- err
				return
			}
		}
	}()
	stopped := make(chan struct{})
	go func() {
		stopWithin(t, srv, 30*time.Second)
		close(stopped)
	}()
	wantLine(t, events, "data: last words")
	wantLine(t, events, "event: push-close")
	if err := <-read; websocket.CloseStatus(err) != websocket.StatusGoingAway {
		t.Error(err)
	}
	<-stopped
	stuck.Body.Close()
	response, _ := get(t, service.Client(), service.URL+"/push?channel=c", nil)
	if response.StatusCode != 503 {
		t.Error(response.Status)
	}
	service.Client().CloseIdleConnections()
}

// A listener that wraps its connections keeps track of them, so they are not taken from it.
func TestWrappedConnectionsStayWithTheirListener(t *testing.T) {
	srv := startClean(t, push.Config{})
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	closed := make(chan struct{})
	service := &http.Server{Handler: srv.Handler(push.Anyone)}
	go func() { _ = service.Serve(wrapping{listener, closed}) }()
	defer service.Close()
	conn := dial(t, "http://"+listener.Addr().String()+"/?channel=c", nil)
	publish(t, srv, "c", "through the wrapper")
	wantFrame(t, conn, "through the wrapper")
	select {
	case <-closed:
		t.Error("its connection was closed")
	default:
	}
	conn.CloseNow()
	select {
	case <-closed:
	case <-time.After(harness.Patience):
		t.Error("its connection stays open")
	}
}

type wrapping struct {
	net.Listener
	closed chan struct{}
}

func (w wrapping) Accept() (net.Conn, error) {
	conn, err := w.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return &wrapped{TCPConn: conn.(*net.TCPConn), closed: w.closed}, nil
}

type wrapped struct {
	*net.TCPConn
	once   sync.Once
	closed chan struct{}
}

func (w *wrapped) Close() error {
	w.once.Do(func() { close(w.closed) })
	return w.TCPConn.Close()
}

func TestCurl(t *testing.T) {
	if _, err := exec.LookPath("curl"); err != nil {
		t.Fatal("needs curl")
	}
	srv := startClean(t, push.Config{})
	plain := serve(t, srv.Handler(push.Anyone))
	service, requests := secure(t, srv.Handler(push.Anyone))
	for _, test := range []struct {
		version, url string
		major        int
	}{{"--http1.1", plain.URL, 1}, {"--http1.1", service.URL, 1}, {"--http2", service.URL, 2}} {
		publish(t, srv, "c", "for curl")
		curl := exec.Command("curl", "-sNk", "--max-time", fmt.Sprint(harness.Patience.Seconds()), test.version, "-w", "", "-H", "Accept: text/event-stream",
			test.url+"/push?channel=c&last=1")
		out, err := curl.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := curl.Start(); err != nil {
			t.Fatal(err)
		}
		lines := bufio.NewReader(out)
		wantLine(t, lines, "data: for curl")
		publish(t, srv, "c", "more")
		wantLine(t, lines, "data: more")
		_ = curl.Process.Kill()
		_ = curl.Wait()
		if _, major := requests.count(); strings.HasPrefix(test.url, "https") && major != test.major {
			t.Errorf("%s: HTTP/%d", test.version, major)
		}
	}
}
