package push_test

import (
	"errors"
	"io"
	"net/http"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"

	"libpush.example/go/internal/harness"
	"libpush.example/go/push"
)

// A server is attached, so its clients outlive it. Those behind TLS can't, since Go encrypts for them. Each is told to
// come back later before it is cut off, and nobody waits for the end of the time.
func TestRelayedClientsOfAnAttachedServerAreTold(t *testing.T) {
	harness.CheckLeaks(t)
	address := "unix:" + filepath.Join(t.TempDir(), "attach.sock")
	hub := start(t, push.Config{Options: map[string]string{"attach_listen": address, "retry": "1s"}})
	srv := attached(t, address)
	service, _ := secure(t, srv.Handler(push.Anyone))
	plain := serve(t, srv.Handler(push.Anyone))
	advised := regexp.MustCompile(`retry(?:":| in )(\d{4})\b`)

	stays := dial(t, plain.URL+"/push?channel=c", nil)
	heard := make(chan string)
	count := 0
	for range 3 {
		for _, client := range []*http.Client{oldClient(service), service.Client()} {
			for _, transport := range []string{"sse", "stream"} {
				_, body := get(t, client, service.URL+"/push?channel=c&transport="+transport, nil)
				count++
				go func() {
					said, err := io.ReadAll(body)
					if err != nil {
						said = append(said, " cut: "+err.Error()...)
					}
					heard <- string(said)
				}()
			}
			poll := polled(client, service.URL+"/push?channel=c&transport=poll")
			count++
			go func() { heard <- "1001 " + <-poll }()
		}
		socket := dial(t, service.URL+"/push?channel=c", &websocket.DialOptions{HTTPClient: oldClient(service)})
		count++
		go func() {
			_, _, err := socket.Read(deadline(t))
			var closed websocket.CloseError
			if !errors.As(err, &closed) || closed.Code != 1001 {
				heard <- "cut: " + err.Error()
				return
			}
			heard <- "1001 " + closed.Reason
		}()
	}
	harness.Wait(t, "all are here", func() bool { return stats(t, hub).Subscriptions == uint64(count)+1 })
	stopped := make(chan error, 1)
	began := time.Now()
	go func() { stopped <- srv.Stop(limited(t, harness.Patience)) }()
	for range count {
		said := <-heard
		if !strings.Contains(said, "1001") || !advised.MatchString(said) || strings.Contains(said, "cut: ") {
			t.Errorf("%q", said)
		}
	}
	service.Client().CloseIdleConnections()
	if err := <-stopped; err != nil {
		t.Error(err)
	}
	if took := time.Since(began); took > harness.Patience*3/4 {
		t.Errorf("it took %s", took)
	}
	publish(t, hub, "c", "after its end")
	wantFrame(t, stays, "after its end")
}
