package push_test

import (
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/coder/websocket"

	"libpush.example/go/push"
)

func TestAMessageLeavesAClientOut(t *testing.T) {
	srv := startClean(t, push.Config{Options: map[string]string{"user_channel": "true"}})
	service := serve(t, srv.Handler(func(*http.Request) (push.Grant, error) {
		return push.Grant{User: "ada", Channels: []string{"news"}}, nil
	}))
	const id = "0a1b2c3d-0000-4000-8000-00000000000a"
	json := &websocket.DialOptions{Subprotocols: []string{"push.v1.json"}}
	theirs := dial(t, service.URL+"/push?channel=news&client="+id, json)
	other := dial(t, service.URL+"/push?channel=news", json)
	for _, conn := range []*websocket.Conn{theirs, other} {
		wantFrameWith(t, conn, `"subscribed","channel":"news"`)
		wantFrameWith(t, conn, `"subscribed","channel":"user:ada"`)
	}
	first, err := srv.PublishMessage(push.Message{Channel: "news", Data: []byte("first")})
	if err != nil {
		t.Fatal(err)
	}
	wantFrameWith(t, theirs, `"data":"first"`)
	wantFrameWith(t, other, `"data":"first"`)
	// Each call, with the other fields and without them.
	for what, publish := range map[string]func() (push.Position, error){
		"message": func() (push.Position, error) {
			return srv.PublishMessage(push.Message{Channel: "news", Data: []byte("own"), Except: id})
		},
		"with event and key": func() (push.Position, error) {
			return srv.PublishMessage(push.Message{Channel: "news", Data: []byte("own"), Event: "e", Key: "k", Except: id})
		},
		"broadcast": func() (push.Position, error) {
			return srv.Broadcast(push.Message{Data: []byte("own"), Except: id})
		},
		"user": func() (push.Position, error) {
			return srv.PublishUser("ada", push.Message{Data: []byte("own"), Except: id})
		},
		"batch": func() (push.Position, error) {
			at, err := srv.PublishBatchPositions([]push.Message{
				{Channel: "news", Data: []byte("own"), Except: id},
				{Channel: "news", Data: []byte("for all")},
			})
			if err != nil {
				return "", err
			}
			return at[0], nil
		},
	} {
		at, err := publish()
		if err != nil {
			t.Fatal(what, err)
		}
		wantFrameWith(t, theirs, `{"type":"position",`)
		wantFrameWith(t, other, `"id":"`+string(at)+`"`)
		if what == "batch" {
			wantFrameWith(t, theirs, `"data":"for all"`)
			wantFrameWith(t, other, `"data":"for all"`)
		}
	}
	// It is not in its history either.
	response, body := get(t, service.Client(), service.URL+"/push?channel=news&since="+string(first)+"&client="+id, nil)
	text, err := io.ReadAll(body)
	if err != nil || response.StatusCode != 200 || !strings.Contains(string(text), "for all") ||
		strings.Contains(string(text), `"data":"own"`) {
		t.Errorf("%s, %v: %s", response.Status, err, text)
	}
	for _, wrong := range []string{"me", id + "0", id[1:], strings.Repeat("e", 300), "a\x00"} {
		m := push.Message{Channel: "news", Except: wrong}
		if _, err := srv.PublishMessage(m); !errors.Is(err, push.ErrInvalid) {
			t.Errorf("%q: %v", wrong, err)
		}
		if err := srv.PublishBatch([]push.Message{m}); !errors.Is(err, push.ErrInvalid) {
			t.Errorf("%q in a batch: %v", wrong, err)
		}
	}
}
