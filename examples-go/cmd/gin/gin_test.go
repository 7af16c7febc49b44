package main

import (
	"bufio"
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

func post(t *testing.T, url, body string) {
	t.Helper()
	response, err := http.Post(url, "text/plain", strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	response.Body.Close()
	if response.StatusCode != http.StatusNoContent {
		t.Fatal(response.Status)
	}
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
	post(t, program.URL+"/rooms/hall?user=ada", "not here")
	post(t, program.URL+"/rooms/kitchen?user=ada", "dinner")
	if _, got, err := client.ReadMessage(); err != nil || string(got) != "dinner" {
		t.Errorf("%q %v", got, err)
	}
	lines := bufio.NewScanner(stream.Body)
	for lines.Scan() && lines.Text() != "data: dinner" {
	}
	if err := lines.Err(); err != nil {
		t.Error(err)
	}
	response, err := http.Get(program.URL + "/rooms/kitchen/live")
	if err != nil {
		t.Fatal(err)
	}
	response.Body.Close()
	if response.StatusCode != http.StatusUnauthorized {
		t.Error(response.Status)
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
	srv, err := push.Start(push.Config{})
	if err != nil {
		t.Fatal(err)
	}
	defer srv.Stop(t.Context())
	service := httptest.NewServer(router(srv))
	defer service.Close()
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
		response, err = http.Get(fmt.Sprintf("%s/rooms/%s/live?user=eve&transport=stream", service.URL, room))
		if err != nil {
			t.Fatal(err)
		}
		response.Body.Close()
		if response.StatusCode != http.StatusForbidden {
			t.Errorf("%s: %s", room, response.Status)
		}
		answer, err := http.Post(fmt.Sprintf("%s/rooms/%s?user=eve", service.URL, room), "text/plain", strings.NewReader("x"))
		if err != nil {
			t.Fatal(err)
		}
		answer.Body.Close()
		if answer.StatusCode != http.StatusBadRequest {
			t.Errorf("publishing to %s: %s", room, answer.Status)
		}
	}
	// A star elsewhere is a letter.
	client, _, err := websocket.DefaultDialer.Dial("ws"+strings.TrimPrefix(service.URL, "http")+"/rooms/a*b/live?user=u", nil)
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	post(t, service.URL+"/rooms/axb?user=u", "not for it")
	post(t, service.URL+"/rooms/a*b?user=u", "for it")
	_ = client.SetReadDeadline(time.Now().Add(20 * time.Second))
	if _, got, err := client.ReadMessage(); err != nil || string(got) != "for it" {
		t.Errorf("%q %v", got, err)
	}
}

// A client that was handed over keeps nothing of gin, and gin's contexts go back to their pool unharmed.
func TestNothingStaysBehindUnderGin(t *testing.T) {
	harness.CheckLeaks(t)
	srv, err := push.Start(push.Config{})
	if err != nil {
		t.Fatal(err)
	}
	defer srv.Stop(t.Context())
	service := httptest.NewServer(router(srv))
	defer service.Close()
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
		post(t, fmt.Sprintf("%s/rooms/r%d?user=u", service.URL, i), fmt.Sprint("for ", i))
		_ = client.SetReadDeadline(time.Now().Add(harness.Patience))
		if _, got, err := client.ReadMessage(); err != nil || string(got) != fmt.Sprint("for ", i) {
			t.Errorf("%d: %q %v", i, got, err)
		}
	}
}
