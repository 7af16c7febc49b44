package push_test

import (
	"errors"
	"net/http"
	"path/filepath"
	"testing"
	"time"

	"libpush.example/go/push"
)

// hubAt starts a hub for hosts of other processes. (A server with attach_listen is one, as pushd is.)
func hubAt(t *testing.T, address string) *push.Server {
	return start(t, push.Config{Options: map[string]string{"attach_listen": address}})
}

func attached(t *testing.T, address string) *push.Server {
	return start(t, push.Config{Options: map[string]string{"attach": address, "attach_timeout": "10s", "attach_name": "go"}})
}

// A hub, and two hosts as two processes would be them: a client is handed over by one, hears the other, and outlives both.
func TestAttachedServersShareAHub(t *testing.T) {
	address := "unix:" + filepath.Join(t.TempDir(), "attach.sock")
	hub := hubAt(t, address)
	one, other := attached(t, address), attached(t, address)
	service := serve(t, one.Handler(func(*http.Request) (push.Grant, error) {
		return push.Grant{User: "ann", Channels: []string{"news"}}, nil
	}))
	client := dial(t, service.URL+"/push?channel=news", nil)
	position, err := other.PublishMessage(push.Message{Channel: "news", Data: []byte("from the other"), Key: "1"})
	if err != nil || position == "" {
		t.Fatal(position, err)
	}
	wantFrame(t, client, "from the other")
	if stats(t, one) != stats(t, other) || stats(t, one).WebSockets != 1 {
		t.Errorf("%+v, and %+v", stats(t, one), stats(t, other))
	}
	if err := one.Stop(deadline(t)); err != nil {
		t.Fatal(err)
	}
	publish(t, other, "news", "after its host's end")
	wantFrame(t, client, "after its host's end")
	if err := other.Stop(deadline(t)); err != nil {
		t.Fatal(err)
	}
	publish(t, hub, "news", "from the hub")
	wantFrame(t, client, "from the hub")
}

func TestAttachedWithoutAHub(t *testing.T) {
	address := "unix:" + filepath.Join(t.TempDir(), "attach.sock")
	srv := start(t, push.Config{Options: map[string]string{"attach": address, "attach_timeout": "50ms"}})
	publish(t, srv, "news", "waits")
	if _, err := srv.PublishMessage(push.Message{Channel: "news", Data: []byte("x")}); !errors.Is(err, push.ErrBusy) {
		t.Error(err)
	}
	hub := hubAt(t, address)
	for end := time.Now().Add(20 * time.Second); stats(t, hub).Published == 0; time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("what waited was not published")
		}
	}
}
