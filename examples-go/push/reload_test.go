package push_test

import (
	"bytes"
	"errors"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"

	"libpush.example/go/internal/harness"
	"libpush.example/go/push"
)

func TestReload(t *testing.T) {
	harness.CheckLeaks(t)
	var log lockedBuffer
	file := filepath.Join(t.TempDir(), "push.toml")
	write := func(text string) {
		t.Helper()
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("max_message = \"10\"\n")
	config := push.Config{File: file, Logger: slog.New(slog.NewTextHandler(&log, nil))}
	srv := start(t, config)
	large := bytes.Repeat([]byte("x"), 11)
	if err := srv.Publish("c", large); !errors.Is(err, push.ErrTooLarge) {
		t.Fatal(err)
	}
	write("max_message = \"20\"\n")
	if err := srv.Reload(config); err != nil {
		t.Fatal(err)
	}
	if err := srv.Publish("c", large); err != nil {
		t.Error(err)
	}

	// All options change or none, and the error says what is wrong.
	small := map[string]string{"max_message": "1", "history_count": "many"}
	for _, test := range []struct {
		config push.Config
		want   push.Status
		says   string
	}{
		{push.Config{Options: small}, push.ErrConfig, "push: reload: option history_count"},
		{push.Config{Options: map[string]string{"path": "/a\x00b"}}, push.ErrConfig, "NUL"},
		{push.Config{File: "a\x00b"}, push.ErrConfig, "NUL"},
		{push.Config{File: file + ".none"}, push.ErrSystem, "push.toml.none"},
	} {
		if err := srv.Reload(test.config); !errors.Is(err, test.want) || !strings.Contains(err.Error(), test.says) {
			t.Errorf("%+v: %v", test.config, err)
		}
	}
	if err := srv.Publish("c", large); err != nil {
		t.Error("something has changed: ", err)
	}

	// Options that only a start can change stay, and the log names them.
	config.Options = map[string]string{"threads": "3"}
	if err := srv.Reload(config); err != nil {
		t.Error(err)
	}
	harness.Wait(t, "the log names threads", func() bool { return strings.Contains(log.String(), "threads") })
}

// An origin that is taken away is refused. A client that was let in with it stays.
func TestReloadOrigins(t *testing.T) {
	srv := startClean(t, push.Config{AllowedOrigins: []string{"https://a.example"}})
	service := serve(t, srv.Handler(push.Anyone))
	url := service.URL + "/push?channel=c"
	from := func(origin string) *websocket.DialOptions {
		return &websocket.DialOptions{HTTPHeader: http.Header{"Origin": {origin}}}
	}
	client := dial(t, url, from("https://a.example"))
	if err := srv.Reload(push.Config{AllowedOrigins: []string{"https://b.example"}}); err != nil {
		t.Fatal(err)
	}
	response, _ := get(t, service.Client(), url, http.Header{"Origin": {"https://a.example"}})
	if response.StatusCode != http.StatusForbidden {
		t.Error(response.Status)
	}
	other := dial(t, url, from("https://b.example"))
	publish(t, srv, "c", "for both")
	wantFrame(t, client, "for both")
	wantFrame(t, other, "for both")
}

// The clients go, the server stays.
func TestDrain(t *testing.T) {
	srv := startClean(t, push.Config{})
	events := srv.Events()
	service := serve(t, srv.Handler(push.Anyone))
	client := dial(t, service.URL+"/push?channel=c", nil)
	own := subscribe(t, srv, push.SubscribeOptions{}, "c")
	publish(t, srv, "c", "before")
	if err := srv.Drain(200 * time.Millisecond); err != nil {
		t.Fatal(err)
	}
	if e := event(t, events, push.Draining); e.Conn != 0 || e.User != "" {
		t.Errorf("%+v", e)
	}
	wantFrame(t, client, "before")
	if _, _, err := client.Read(deadline(t)); websocket.CloseStatus(err) != websocket.StatusGoingAway {
		t.Error(err)
	}
	if d := next(t, own); string(d.Data) != "before" {
		t.Errorf("%+v", d)
	}
	if d, ok := own.Next(); ok || !errors.Is(own.Err(), push.ErrClosed) {
		t.Errorf("%+v, %v", d, own.Err())
	}
	event(t, events, push.Drained)
	response, _ := get(t, service.Client(), service.URL+"/push?channel=c&transport=poll", nil)
	if response.StatusCode != http.StatusServiceUnavailable {
		t.Error(response.Status)
	}
	publish(t, srv, "c", "after")
	if s := stats(t, srv); s.Draining != 1 || s.WebSockets != 0 || s.Streams != 0 || s.Published != 2 {
		t.Errorf("%+v", s)
	}
}
