package push_test

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"regexp"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"

	"libpush.example/go/internal/harness"
	"libpush.example/go/push"
)

func TestEveryTransportOverPlainHTTP(t *testing.T) {
	srv := startClean(t, push.Config{})
	service := serve(t, srv.Handler(push.Anyone))
	at := service.URL + "/push?channel=news"
	goroutines := runtime.NumGoroutine()

	socket := dial(t, at, nil)
	_, sse := get(t, service.Client(), at, http.Header{"Accept": {"text/event-stream"}})
	_, stream := get(t, service.Client(), at, http.Header{"Accept": {"application/x-ndjson"}})
	poll := polled(service.Client(), at)
	harness.Wait(t, "four subscribers, each of another kind", func() bool {
		s := stats(t, srv)
		return s.Subscriptions == 4 && s.WebSockets == 1 && s.SSE == 1 && s.Streams == 1 && s.Polls == 1 && s.Adopted == 4
	})
	publish(t, srv, "news", "hello")
	wantFrame(t, socket, "hello")
	wantLine(t, sse, "data: hello")
	wantLine(t, stream, `"data":"hello"`)
	if answer := <-poll; !strings.Contains(answer, `"data":"hello"`) {
		t.Error(answer)
	}
	// Each client of net/http has two goroutines, and a WebSocket has one for its context. None is the
	// service's.
	harness.Wait(t, "no goroutine of the service's is left", func() bool {
		return runtime.NumGoroutine() <= goroutines+6 && !strings.Contains(stacks(), "net/http.(*conn).serve")
	})
}

func stacks() string {
	all := make([]byte, 1<<20)
	return string(all[:runtime.Stack(all, true)])
}

// Bytes that a client sends before it has the answer are passed on: here the first frames of a WebSocket, in one piece
// with the head and split at every place that can matter.
func TestBytesAlreadyReadGoAlong(t *testing.T) {
	srv := startClean(t, push.Config{})
	events := srv.Events()
	service := serve(t, srv.Handler(push.Anyone))
	address := service.Listener.Addr().String()
	head := "GET /push?channel=c HTTP/1.1\r\nHost: " + address + "\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n" +
		"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
	frame := "\x81\x85\x00\x00\x00\x00early"
	for _, cut := range []int{0, 1, len(head) - 1, len(head), len(head) + 1, len(head) + len(frame) - 1} {
		conn, err := net.Dial("tcp", address)
		if err != nil {
			t.Fatal(err)
		}
		all := head + frame + frame
		fmt.Fprint(conn, all[:cut])
		if cut > 0 {
			time.Sleep(20 * time.Millisecond)
		}
		fmt.Fprint(conn, all[cut:])
		for range 2 {
			if e := event(t, events, push.Received); string(e.Data) != "early" {
				t.Errorf("cut at %d: %q", cut, e.Data)
			}
		}
		conn.Close()
		event(t, events, push.Disconnected)
	}
}

func TestAuthorizeDecides(t *testing.T) {
	srv := startClean(t, push.Config{})
	answers := map[string]func() (push.Grant, error){
		"nothing":     func() (push.Grant, error) { return push.Grant{}, nil },
		"no-channels": func() (push.Grant, error) { return push.Grant{User: "u", Channels: []string{}}, nil },
		"login":       func() (push.Grant, error) { return push.Grant{}, push.ErrUnauthorized },
		"wrapped":     func() (push.Grant, error) { return push.Grant{}, fmt.Errorf("session: %w", push.ErrUnauthorized) },
		"secret":      func() (push.Grant, error) { return push.Grant{}, errors.New("password of the database is hunter2") },
		"own": func() (push.Grant, error) {
			return push.Grant{}, &push.Refusal{Status: 402, Code: "pay", Message: "pay \"us\""}
		},
		"busy": func() (push.Grant, error) {
			return push.Grant{}, &push.Refusal{Status: 503, Code: "later", Message: "later"}
		},
		"late": func() (push.Grant, error) {
			return push.Grant{}, fmt.Errorf("who is here: %w", &push.Error{Op: "users", Status: push.ErrTimeout})
		},
		"other": func() (push.Grant, error) {
			return push.Grant{Channels: []string{"other"}, Patterns: []string{"prefix.*"}}, nil
		},
		"bad-pattern":  func() (push.Grant, error) { return push.Grant{Patterns: []string{"a*b*"}}, nil },
		"pattern":      func() (push.Grant, error) { return push.Grant{Channels: []string{"new*"}}, nil },
		"every":        func() (push.Grant, error) { return push.Grant{Subscribe: []string{"*"}}, nil },
		"empty-name":   func() (push.Grant, error) { return push.Grant{Channels: []string{""}}, nil },
		"NUL":          func() (push.Grant, error) { return push.Grant{Channels: []string{"news\x00other"}}, nil },
		"ended":        func() (push.Grant, error) { return push.Grant{Patterns: []string{"*"}, Expires: time.Unix(7, 0)}, nil },
		"before-epoch": func() (push.Grant, error) { return push.Grant{Patterns: []string{"*"}, Expires: time.Unix(-7, 0)}, nil },
		"fine":         func() (push.Grant, error) { return push.Grant{Channels: []string{"news"}, User: "u"}, nil },
		"subscribed":   func() (push.Grant, error) { return push.Grant{Subscribe: []string{"news"}}, nil },
		"publisher":    func() (push.Grant, error) { return push.Grant{PublishChannels: []string{"news"}}, nil },
		"publish-pattern": func() (push.Grant, error) {
			return push.Grant{Channels: []string{"news"}, PublishChannels: []string{"new*"}}, nil
		},
		"publish-empty": func() (push.Grant, error) {
			return push.Grant{Channels: []string{"news"}, PublishPatterns: []string{""}}, nil
		},
	}
	service := serve(t, srv.Handler(func(r *http.Request) (push.Grant, error) { return answers[r.URL.Query().Get("as")]() }))
	secure := httptest.NewUnstartedServer(service.Config.Handler)
	secure.EnableHTTP2 = true
	secure.StartTLS()
	defer secure.Close()

	for _, over := range []*httptest.Server{service, secure} {
		for as, want := range map[string]struct {
			status int
			code   string
		}{
			"nothing": {403, "forbidden"}, "no-channels": {403, "channel"}, "login": {401, "unauthorized"},
			"wrapped": {401, "unauthorized"}, "secret": {403, "forbidden"}, "own": {402, "pay"}, "busy": {503, "later"},
			"late": {504, "timeout"}, "other": {403, "channel"}, "bad-pattern": {403, "forbidden"},
			"pattern": {403, "forbidden"}, "every": {403, "forbidden"}, "empty-name": {403, "forbidden"},
			"NUL": {403, "forbidden"}, "ended": {403, "expired"}, "before-epoch": {403, "expired"},
			"fine": {200, ""}, "subscribed": {200, ""}, "publisher": {403, "channel"},
			"publish-pattern": {403, "forbidden"}, "publish-empty": {403, "forbidden"},
		} {
			response, body := get(t, over.Client(), over.URL+"/push?channel=news&transport=stream&as="+as, nil)
			if response.StatusCode != want.status {
				t.Errorf("%s: %s", as, response.Status)
			}
			if want.status == 200 {
				response.Body.Close()
				continue
			}
			text, _ := io.ReadAll(body)
			var answer struct {
				Error struct{ Code, Message string }
			}
			if err := json.Unmarshal(text, &answer); err != nil || answer.Error.Code != want.code || answer.Error.Message == "" {
				t.Errorf("%s: %s", as, text)
			}
			if strings.Contains(string(text), "hunter2") {
				t.Errorf("the client was told %s", text)
			}
		}
		// An EventSource comes back only after a 200.
		for _, as := range []string{"busy", "late"} {
			response, body := get(t, over.Client(), over.URL+"/push?as="+as, http.Header{"Accept": {"text/event-stream"}})
			text, _ := io.ReadAll(body)
			if response.StatusCode != 200 || !regexp.MustCompile(`^retry: [234]\d\d\d\nevent: push-close\n`).Match(text) {
				t.Errorf("%s: %s: %s", as, response.Status, text)
			}
		}
	}
}

func TestGrantIsWhatTheConnectionHas(t *testing.T) {
	srv := startClean(t, push.Config{})
	events := srv.Events()
	service := serve(t, srv.Handler(func(*http.Request) (push.Grant, error) {
		return push.Grant{User: "ada", Patterns: []string{"more.*", "a*b"}, Subscribe: []string{"mine", "und & ümlaut?"}, Publish: true}, nil
	}))
	// If the grant names the channels, the channels of the URL do not matter.
	conn := dial(t, service.URL+"/push?channel=theirs", &websocket.DialOptions{Subprotocols: []string{"push.v1.json"}})
	connected := event(t, events, push.Connected)
	if connected.User != "ada" || connected.Channel != "mine" {
		t.Errorf("%+v", connected)
	}
	wantFrameWith(t, conn, `"subscribed","channel":"mine"`)
	wantFrameWith(t, conn, `"subscribed","channel":"und & ümlaut?"`)
	say := func(text string) {
		if err := conn.Write(t.Context(), websocket.MessageText, []byte(text)); err != nil {
			t.Fatal(err)
		}
	}
	say(`{"type":"subscribe","channel":"theirs"}`)
	wantFrameWith(t, conn, `"error"`)
	say(`{"type":"subscribe","channel":"more.of.it"}`)
	wantFrameWith(t, conn, `"subscribed","channel":"more.of.it"`)
	say(`{"type":"publish","channel":"mine","data":"from me"}`)
	wantFrameWith(t, conn, `from me`, `published`)
	wantFrameWith(t, conn, `from me`, `published`)
	if err := srv.RevokeChannel("ada", "more.*", "moved out"); err != nil {
		t.Fatal(err)
	}
	wantFrameWith(t, conn, `"unsubscribed","channel":"more.of.it","code":4403,"reason":"moved out"`)
	// A star within a name is a letter like any other.
	say(`{"type":"subscribe","channel":"a*b"}`)
	wantFrameWith(t, conn, `"subscribed","channel":"a*b"`)
	if err := srv.RevokeChannel("ada", "a*b", ""); err != nil {
		t.Fatal(err)
	}
	wantFrameWith(t, conn, `"unsubscribed","channel":"a*b"`)
	if err := srv.Renew(connected.Conn, push.Grant{User: "ada", Channels: []string{"mine", "theirs"}}); err != nil {
		t.Fatal(err)
	}
	wantFrameWith(t, conn, `"unsubscribed","channel":"und & ümlaut?"`)
	say(`{"type":"subscribe","channel":"theirs"}`)
	wantFrameWith(t, conn, `"subscribed","channel":"theirs"`)
	if err := srv.Disconnect("ada", 4403, "logged out"); err != nil {
		t.Fatal(err)
	}
	for {
		_, _, err := conn.Read(t.Context())
		if err == nil {
			continue
		}
		var closed websocket.CloseError
		if !errors.As(err, &closed) || closed.Code != 4403 || closed.Reason != "logged out" {
			t.Error(err)
		}
		break
	}
	if e := event(t, events, push.Disconnected); e.User != "ada" || e.Code != 4403 {
		t.Errorf("%+v", e)
	}
}

// wantFrameWith expects one frame with one of the texts.
func wantFrameWith(t *testing.T, conn *websocket.Conn, texts ...string) {
	t.Helper()
	_, got, err := conn.Read(deadline(t))
	for _, text := range texts {
		if err == nil && strings.Contains(string(got), text) {
			return
		}
	}
	t.Fatalf("got %q, %v; want one of %q", got, err, texts)
}

func TestMethodsAndOrigins(t *testing.T) {
	srv := startClean(t, push.Config{AllowedOrigins: []string{"https://app.example"}})
	asked := 0
	service := serve(t, srv.Handler(func(r *http.Request) (push.Grant, error) { asked++; return push.Anyone(r) }))
	request := func(method, origin string) *http.Response {
		r, _ := http.NewRequest(method, service.URL+"/push?channel=c&transport=stream", nil)
		if origin != "" {
			r.Header.Set("Origin", origin)
		}
		response, err := service.Client().Do(r)
		if err != nil {
			t.Fatal(err)
		}
		response.Body.Close()
		return response
	}
	if r := request("POST", ""); r.StatusCode != 405 || r.Header.Get("Allow") != "GET, OPTIONS" {
		t.Error(r.Status, r.Header)
	}
	if r := request("OPTIONS", "https://app.example"); r.StatusCode != 204 ||
		r.Header.Get("Access-Control-Allow-Origin") != "https://app.example" {
		t.Error(r.Status, r.Header)
	}
	if r := request("OPTIONS", "https://evil.example"); r.StatusCode != 403 {
		t.Error(r.Status, r.Header)
	}
	if asked != 0 {
		t.Errorf("authorize was asked %d times", asked)
	}
	if r := request("GET", "https://app.example"); r.StatusCode != 200 ||
		r.Header.Get("Access-Control-Allow-Origin") != "https://app.example" {
		t.Error(r.Status, r.Header)
	}
	if r := request("GET", "https://evil.example"); r.StatusCode != 403 {
		t.Error(r.Status, r.Header)
	}
}

// A preflight must not open the connection for the requests that follow on it.
func TestNothingGetsInBehindAPreflight(t *testing.T) {
	srv := startClean(t, push.Config{AllowedOrigins: []string{"*"}})
	service := serve(t, srv.Handler(func(*http.Request) (push.Grant, error) { return push.Grant{}, push.ErrUnauthorized }))
	conn, err := net.Dial("tcp", service.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(harness.Patience))
	fmt.Fprint(conn, "OPTIONS /push HTTP/1.1\r\nHost: h\r\nOrigin: https://a\r\n\r\n"+
		"GET /push?channel=c&transport=stream HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n")
	answers := bufio.NewReader(conn)
	for _, want := range []int{204, 401} {
		response, err := http.ReadResponse(answers, nil)
		if err != nil || response.StatusCode != want {
			t.Fatalf("%+v, %v; want %d", response, err, want)
		}
		_, _ = io.Copy(io.Discard, response.Body)
	}
}

// Bodies, large cookies, and changes that a middleware may make to a request.
func TestOddRequests(t *testing.T) {
	srv := startClean(t, push.Config{})
	handler := srv.Handler(push.Anyone)
	service := serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Query().Get("do") {
		case "split":
			r.URL = &url.URL{Path: "/x", RawQuery: "channel=c&transport=stream HTTP/1.1\r\nX: y\r\n\r\n"}
			r.Header["Accept"] = []string{"text/event-stream\r\nLast-Event-ID: bad"}
		case "no-hijack":
			w = struct {
				http.ResponseWriter
				http.Flusher
			}{w, w.(http.Flusher)}
		}
		handler.ServeHTTP(w, r)
	}))
	client := service.Client()
	status := func(header http.Header, query string) int {
		response, _ := get(t, client, service.URL+"/push?transport=stream&channel=c"+query, header)
		response.Body.Close()
		return response.StatusCode
	}
	if got := status(http.Header{"Cookie": {strings.Repeat("x", 60<<10)}}, ""); got != 200 {
		t.Errorf("60 KB of cookies: %d", got)
	}
	if got := status(nil, "&do=split"); got != 400 {
		t.Errorf("a query with line ends: %d", got)
	}
	if got := status(nil, "&since=nonsense"); got != 400 {
		t.Errorf("bad position: %d", got)
	}
	_, body := get(t, client, service.URL+"/push?transport=stream&channel=c&do=no-hijack", nil)
	publish(t, srv, "c", "through the ResponseWriter")
	wantLine(t, body, "through the ResponseWriter")
	for _, more := range []string{"Content-Length: 3\r\n\r\nabc", "Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n", "Transfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\n\r\n"} {
		conn, err := net.Dial("tcp", service.Listener.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		_ = conn.SetDeadline(time.Now().Add(harness.Patience))
		fmt.Fprint(conn, "GET /push?channel=c HTTP/1.1\r\nHost: h\r\n"+more)
		response, err := http.ReadResponse(bufio.NewReader(conn), nil)
		if err != nil || response.StatusCode != 400 {
			t.Errorf("a body: %+v, %v", response, err)
		}
		conn.Close()
	}
	// An empty body in chunks counts as none, however late its end comes.
	for _, way := range []string{"", "&do=no-hijack"} {
		conn, err := net.Dial("tcp", service.Listener.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		_ = conn.SetDeadline(time.Now().Add(harness.Patience))
		fmt.Fprint(conn, "GET /push?transport=stream&channel=c"+way+" HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n")
		time.Sleep(10 * time.Millisecond)
		fmt.Fprint(conn, "0\r\n\r\n")
		response, err := http.ReadResponse(bufio.NewReader(conn), nil)
		if err != nil || response.StatusCode != 200 {
			t.Errorf("an empty body%s: %+v, %v", way, response, err)
		}
		conn.Close()
	}
	// HTTP/1.0 has no chunks.
	conn, lines, err := rawStream(service.Listener.Addr().String(), "channel=c&last=1")
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	wantLine(t, lines, `{"type":"message"`)
}

func TestNoRoomAndNoServer(t *testing.T) {
	srv := beginClean(t, push.Config{Options: map[string]string{"max_connections": "1"}})
	service := serve(t, srv.Handler(push.Anyone))
	first := dial(t, service.URL+"/push?channel=c", nil)
	for _, why := range []string{"max_connections is reached", "stopped"} {
		response, body := get(t, service.Client(), service.URL+"/push?channel=c", nil)
		text, _ := io.ReadAll(body)
		if response.StatusCode != 503 || response.Header.Get("Retry-After") == "" {
			t.Errorf("%s: %s %s", why, response.Status, text)
		}
		response, body = get(t, service.Client(), service.URL+"/push?channel=c&transport=sse", nil)
		text, _ = io.ReadAll(body)
		if response.StatusCode != 200 || !strings.Contains(string(text), "push-close") {
			t.Errorf("%s: %s %s", why, response.Status, text)
		}
		if why == "stopped" {
			break
		}
		stopped := make(chan error, 1)
		go func() { stopped <- srv.Stop(deadline(t)) }()
		if _, _, err := first.Read(deadline(t)); websocket.CloseStatus(err) != websocket.StatusGoingAway {
			t.Error(err)
		}
		if err := <-stopped; err != nil {
			t.Fatal(err)
		}
	}
	defer func() {
		if recover() == nil {
			t.Error("a Handler without authorize")
		}
	}()
	srv.Handler(nil)
}
