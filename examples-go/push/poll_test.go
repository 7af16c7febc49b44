package push_test

import (
	"io"
	"net/http"
	"strconv"
	"strings"
	"testing"

	"libpush.example/go/internal/harness"
	"libpush.example/go/push"
)

// A connection stays open for further polls, under the grant of the first.
func TestPollsStayOnTheirConnection(t *testing.T) {
	srv := startClean(t, push.Config{Options: map[string]string{"poll_timeout": "100ms"}})
	asked := 0
	service := serve(t, srv.Handler(func(r *http.Request) (push.Grant, error) {
		asked++
		return push.Grant{Channels: []string{"c"}, KeepAlive: true}, nil
	}))
	for range 3 {
		response, body := get(t, service.Client(), service.URL+"/push?channel=c", nil)
		if text, _ := io.ReadAll(body); response.StatusCode != 200 {
			t.Fatalf("%s %s", response.Status, text)
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
	for range 2 {
		response, body := get(t, service.Client(), service.URL+"/push?channel=other&last=1", nil)
		if text, _ := io.ReadAll(body); response.StatusCode != 200 || !strings.Contains(string(text), `"data":"hers"}]}`) {
			t.Fatalf("%s %s", response.Status, text)
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
