package main

import (
	"bufio"
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/gorilla/websocket"

	"libpush.example/go/internal/harness"
	"libpush.example/go/push"
)

// get returns the status of an answer.
func get(t *testing.T, url string) int {
	t.Helper()
	return status(t)(http.Get(url))
}

// post returns the status of an answer.
func post(t *testing.T, url, body string) int {
	t.Helper()
	return status(t)(http.Post(url, "text/plain", strings.NewReader(body)))
}

func status(t *testing.T) func(*http.Response, error) int {
	return func(response *http.Response, err error) int {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		response.Body.Close()
		return response.StatusCode
	}
}

func publish(t *testing.T, url, body string) {
	t.Helper()
	if got := post(t, url, body); got != http.StatusNoContent {
		t.Fatal(url, got)
	}
}

// serve starts a server, and a service with its rooms.
func serve(t *testing.T) *httptest.Server {
	t.Helper()
	srv, err := push.Start(push.Config{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { srv.Stop(context.Background()) })
	service := httptest.NewServer(router(srv))
	t.Cleanup(service.Close)
	return service
}

func TestRoomsUnderGin(t *testing.T) {
	program := harness.Run(t, "./cmd/gin")
	client, _, err := websocket.DefaultDialer.Dial("ws"+strings.TrimPrefix(program.URL, "http")+"/rooms/kitchen/live?user=ada", nil)
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	_ = client.SetReadDeadline(time.Now().Add(harness.Patience))
	request, _ := http.NewRequest("GET", program.URL+"/rooms/kitchen/live?user=ben", nil)
	request.Header.Set("Accept", "text/event-stream")
	stream, err := http.DefaultClient.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer stream.Body.Close()
	publish(t, program.URL+"/rooms/hall?user=ada", "not here")
	publish(t, program.URL+"/rooms/kitchen?user=ada", "dinner")
	if _, got, err := client.ReadMessage(); err != nil || string(got) != "dinner" {
		t.Errorf("%q %v", got, err)
	}
	lines := bufio.NewScanner(stream.Body)
	for lines.Scan() && lines.Text() != "data: dinner" {
	}
	if err := lines.Err(); err != nil {
		t.Error(err)
	}
	if got := get(t, program.URL+"/rooms/kitchen/live"); got != http.StatusUnauthorized {
		t.Error(got)
	}
	// It answers the close, so the program need not wait for it.
	closed := make(chan error, 1)
	go func() {
		_, _, err := client.ReadMessage()
		closed <- err
	}()
	program.End(t)
	if err := <-closed; !websocket.IsCloseError(err, websocket.CloseGoingAway) {
		t.Error(err, program.State(), program.Said())
	}
	if strings.Contains(program.Said(), "[GIN-debug]") || strings.Contains(program.Said(), "superfluous") {
		t.Error(program.Said())
	}
}

// A client chooses the room by its name, and gets never more than one room.
func TestARoomIsNeverAPattern(t *testing.T) {
	service := serve(t)
	for _, room := range []string{"*", "%2A", "board*", "board-%2a", "**"} {
		url := fmt.Sprintf("ws%s/rooms/%s/live?user=eve", strings.TrimPrefix(service.URL, "http"), room)
		header := http.Header{"Sec-Websocket-Protocol": {"push.v1.json"}}
		client, response, err := websocket.DefaultDialer.Dial(url, header)
		if err == nil {
			client.Close()
			t.Errorf("%s: let in", room)
		} else if response == nil || response.StatusCode != http.StatusForbidden {
			t.Errorf("%s: %v", room, err)
		}
		got := get(t, fmt.Sprintf("%s/rooms/%s/live?user=eve&transport=stream", service.URL, room))
		if got != http.StatusForbidden {
			t.Errorf("%s: %d", room, got)
		}
		if got := post(t, fmt.Sprintf("%s/rooms/%s?user=eve", service.URL, room), "x"); got != http.StatusBadRequest {
			t.Errorf("publishing to %s: %d", room, got)
		}
	}
	// A star elsewhere is a letter.
	client, _, err := websocket.DefaultDialer.Dial("ws"+strings.TrimPrefix(service.URL, "http")+"/rooms/a*b/live?user=u", nil)
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	publish(t, service.URL+"/rooms/axb?user=u", "not for it")
	publish(t, service.URL+"/rooms/a*b?user=u", "for it")
	_ = client.SetReadDeadline(time.Now().Add(harness.Patience))
	if _, got, err := client.ReadMessage(); err != nil || string(got) != "for it" {
		t.Errorf("%q %v", got, err)
	}
}

// What is published while the server stops may be published again, at the next one.
func TestAPublisherIsToldToComeBackWhenTheServerHasStopped(t *testing.T) {
	srv, err := push.Start(push.Config{})
	if err != nil {
		t.Fatal(err)
	}
	service := httptest.NewServer(router(srv))
	defer service.Close()
	if err := srv.Stop(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := post(t, service.URL+"/rooms/kitchen?user=ada", "dinner"); got != http.StatusServiceUnavailable {
		t.Error(got)
	}
}

// A client that was handed over keeps nothing of gin, and gin's contexts go back to their pool unharmed.
func TestNothingStaysBehindUnderGin(t *testing.T) {
	harness.CheckLeaks(t)
	service := serve(t)
	before := runtime.NumGoroutine()
	var clients []*websocket.Conn
	for i := range 100 {
		url := fmt.Sprintf("ws%s/rooms/r%d/live?user=u", strings.TrimPrefix(service.URL, "http"), i)
		client, _, err := websocket.DefaultDialer.Dial(url, nil)
		if err != nil {
			t.Fatal(err)
		}
		defer client.Close()
		clients = append(clients, client)
	}
	harness.Wait(t, "no goroutine stays", func() bool { return runtime.NumGoroutine() <= before })
	for i, client := range clients {
		publish(t, fmt.Sprintf("%s/rooms/r%d?user=u", service.URL, i), fmt.Sprint("for ", i))
		_ = client.SetReadDeadline(time.Now().Add(harness.Patience))
		if _, got, err := client.ReadMessage(); err != nil || string(got) != fmt.Sprint("for ", i) {
			t.Errorf("%d: %q %v", i, got, err)
		}
	}
}
