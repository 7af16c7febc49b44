package push_test

import (
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/coder/websocket"

	"libpush.example/go/internal/harness"
	"libpush.example/go/push"
)

func TestPublishUserReachesAllConnectionsOfTheUser(t *testing.T) {
	srv := startClean(t, push.Config{Options: map[string]string{"user_channel": "true"}})
	events := srv.Events()
	service := serve(t, srv.Handler(func(r *http.Request) (push.Grant, error) {
		grant := push.Grant{User: r.URL.Query().Get("user")}
		if r.URL.Query().Has("channel") {
			grant.Channels = []string{"news"}
		}
		return grant, nil
	}))
	json := &websocket.DialOptions{Subprotocols: []string{"push.v1.json"}}
	with := dial(t, service.URL+"/push?channel=news&user=ada", json)
	wantFrameWith(t, with, `"subscribed","channel":"news"`)
	wantFrameWith(t, with, `"subscribed","channel":"user:ada"`)
	without := dial(t, service.URL+"/push?user=ada", json)
	wantFrameWith(t, without, `"subscribed","channel":"user:ada"`)
	other := dial(t, service.URL+"/push?user=bob", json)
	wantFrameWith(t, other, `"subscribed","channel":"user:bob"`)
	at, err := srv.PublishUser("ada", push.Message{Data: []byte("for ada"), Event: "note", Key: "k"})
	if err != nil {
		t.Fatal(err)
	}
	if again, err := srv.PublishUser("ada", push.Message{Data: []byte("again"), Key: "k"}); err != nil || again != at {
		t.Errorf("the same key: %q, %v; the first: %q", again, err, at)
	}
	for _, conn := range []*websocket.Conn{with, without} {
		wantFrameWith(t, conn, `"channel":"user:ada","id":"`+string(at)+`","event":"note","data":"for ada"`)
	}
	if _, err := srv.PublishUser("bob", push.Message{Data: []byte("for bob")}); err != nil {
		t.Fatal(err)
	}
	wantFrameWith(t, other, `"data":"for bob"`)
	// A request that begins after the position names no channel.
	response, body := get(t, service.Client(), service.URL+"/push?user=ada&last=1", nil)
	if text, err := io.ReadAll(body); err != nil || response.StatusCode != 200 || !strings.Contains(string(text), "for ada") {
		t.Errorf("%s, %v: %s", response.Status, err, text)
	}
	// It can name none of another user's, and a grant neither.
	response, _ = get(t, service.Client(), service.URL+"/push?user=ada&channel=user:bob", nil)
	if response.StatusCode != 403 {
		t.Error(response.Status)
	}
	connected := event(t, events, push.Connected)
	if err := srv.Renew(connected.Conn, push.Grant{Channels: []string{"user:bob"}}); !errors.Is(err, push.ErrInvalid) {
		t.Error(err)
	}
	for _, conn := range []*websocket.Conn{with, without, other} {
		conn.CloseNow()
	}
}

// The service's own subscription has no user of the service, so it has no channel beside those that it names.
func TestSubscribeEndsAlsoWhereUsersHaveChannels(t *testing.T) {
	srv := startClean(t, push.Config{Options: map[string]string{"user_channel": "true"}})
	sub, err := srv.Subscribe(t.Context(), []string{"answer"}, push.SubscribeOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if stats, err := srv.Stats(); err != nil || stats.Subscriptions != 1 {
		t.Errorf("%+v, %v", stats.Subscriptions, err)
	}
	if _, err := srv.End("answer"); err != nil {
		t.Fatal(err)
	}
	ends := 0
	for d := range sub.All() {
		if d.End {
			ends++
		}
	}
	if ends != 1 || sub.Err() != nil {
		t.Errorf("%d ends, %v", ends, sub.Err())
	}
	if _, err := srv.Subscribe(t.Context(), []string{"user:ada"}, push.SubscribeOptions{}); !errors.Is(err, push.ErrInvalid) {
		t.Error(err)
	}
}

func TestPublishUserSaysWhatIsWrong(t *testing.T) {
	harness.CheckLeaks(t)
	on := start(t, push.Config{Options: map[string]string{"user_channel": "true"}})
	long := strings.Repeat("u", 250)
	for user, valid := range map[string]bool{
		"ada": true, "a*b": true, "a,b 100%": true, long: true, long + "u": false, strings.Repeat("u", 300): false,
		"": false, "ada*": false, "*": false, "a\x00b": false, "a\nb": false,
	} {
		if _, err := on.PublishUser(user, push.Message{}); (err == nil) != valid || (err != nil && !errors.Is(err, push.ErrInvalid)) {
			t.Errorf("%q: %v", user, err)
		}
	}
	for _, m := range []push.Message{{Channel: "c"}, {Event: "push-x"}, {Key: long + long}} {
		if _, err := on.PublishUser("ada", m); !errors.Is(err, push.ErrInvalid) {
			t.Errorf("%+v: %v", m, err)
		}
	}
	off := start(t, push.Config{})
	if _, err := off.PublishUser("ada", push.Message{}); !errors.Is(err, push.ErrInvalid) {
		t.Error(err)
	}
}
