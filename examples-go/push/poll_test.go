package push_test

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"testing"
	"time"

	"libpush.example/go/internal/harness"
	"libpush.example/go/push"
)

// onOneConnection returns a function that polls there, always over the same connection. The client of net/http opens a
// new one now and then, if the machine is busy.
func onOneConnection(t *testing.T, service *httptest.Server) func(path string) (status, text string) {
	address := service.Listener.Addr().String()
	conn, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	_ = conn.SetDeadline(time.Now().Add(harness.Patience))
	answers := bufio.NewReader(conn)
	return func(path string) (status, text string) {
		t.Helper()
		fmt.Fprintf(conn, "GET %s HTTP/1.1\r\nHost: %s\r\n\r\n", path, address)
		response, err := http.ReadResponse(answers, nil)
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(response.Body)
		if err != nil {
			t.Fatal(err)
		}
		return response.Status, string(body)
	}
}

// A connection stays open for further polls, under the grant of the first.
func TestPollsStayOnTheirConnection(t *testing.T) {
	srv := startClean(t, push.Config{Options: map[string]string{"poll_timeout": "100ms"}})
	asked := 0
	service := serve(t, srv.Handler(func(r *http.Request) (push.Grant, error) {
		asked++
		return push.Grant{Channels: []string{"c"}, KeepAlive: true}, nil
	}))
	poll := onOneConnection(t, service)
	for range 3 {
		if status, text := poll("/push?channel=c"); status != "200 OK" {
			t.Fatalf("%s %s", status, text)
		}
	}
	if s := stats(t, srv); asked != 1 || s.Adopted != 1 {
		t.Errorf("asked %d times, %d connections", asked, s.Adopted)
	}
}

// What the grant subscribes to is what each poll of the connection gets, and needs no room in a URL.
func TestChannelsOfTheGrantAreThoseOfEachPoll(t *testing.T) {
	srv := startClean(t, push.Config{})
	var names []string
	for i := range 100 {
		names = append(names, strings.Repeat("ü", 120)+strconv.Itoa(i)) // beyond max_head
	}
	service := serve(t, srv.Handler(func(r *http.Request) (push.Grant, error) {
		return push.Grant{Subscribe: names, KeepAlive: true}, nil
	}))
	publish(t, srv, names[99], "hers")
	publish(t, srv, "other", "not hers")
	poll := onOneConnection(t, service)
	for range 2 {
		status, text := poll("/push?channel=other&last=1")
		if status != "200 OK" || !strings.Contains(text, `"data":"hers"}]}`) {
			t.Fatalf("%s %s", status, text)
		}
	}
	if s := stats(t, srv); s.Adopted != 1 {
		t.Errorf("%d connections", s.Adopted)
	}
}

// http.TimeoutHandler collects the whole answer: a poll can be had through it, a stream can't.
func TestThroughAWriterThatCollects(t *testing.T) {
	srv := startClean(t, push.Config{})
	service := serve(t, http.TimeoutHandler(srv.Handler(push.Anyone), harness.Patience, "too late"))
	publish(t, srv, "c", "already there")
	for _, test := range []struct {
		transport string
		status    int
		says      string
	}{{"poll", 200, "already there"}, {"sse", 500, "internal"}, {"stream", 500, "internal"}, {"ws", 400, "upgrade"}} {
		response, body := get(t, service.Client(), service.URL+"/push?channel=c&last=1&transport="+test.transport, nil)
		text, _ := io.ReadAll(body)
		if response.StatusCode != test.status || !strings.Contains(string(text), test.says) {
			t.Errorf("%s: %s %s", test.transport, response.Status, text)
		}
	}
}
