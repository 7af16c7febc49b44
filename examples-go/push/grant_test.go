package push_test

import (
	"encoding/json"
	"errors"
	"net/http"
	"strings"
	"testing"

	"github.com/coder/websocket"

	"libpush.example/go/push"
)

// asks sends a request of push.v1.json, and returns the type of its answer, or the code of its error. Messages that come
// meanwhile are skipped.
func asks(t *testing.T, conn *websocket.Conn, request map[string]string) string {
	t.Helper()
	text, err := json.Marshal(request)
	if err != nil {
		t.Fatal(err)
	}
	if err := conn.Write(deadline(t), websocket.MessageText, text); err != nil {
		t.Fatal(err)
	}
	for {
		var answer struct{ Type, Code string }
		_, got, err := conn.Read(deadline(t))
		if err != nil || json.Unmarshal(got, &answer) != nil {
			t.Fatalf("%q, %v", got, err)
		}
		switch answer.Type {
		case "message":
		case "error":
			return answer.Code
		default:
			return answer.Type
		}
	}
}

func TestAGrantNamesTheEntryThatIsWrong(t *testing.T) {
	srv := startClean(t, push.Config{})
	for says, grant := range map[string]push.Grant{
		`pattern "a*b*": * may stand at the end only`:  {Patterns: []string{"fine.*", "a*b", "a*b*"}},
		`pattern "**": * may stand at the end only`:    {Channels: []string{"a*b"}, PublishPatterns: []string{"**"}},
		`channel "news.*": a name can't end in *; Pat`: {Channels: []string{"news.*"}},
		"info: 1025 bytes; at most 1024 are allowed":   {User: "ada", Info: strings.Repeat("i", 1025)},
		"info: control characters are not allowed":     {User: "ada", Info: "a\x00"},
		"not allowed, so JSON has to be in one line":   {User: "ada", Info: "{\n}"},
		"info: not UTF-8": {User: "ada", Info: "a\xff"},
		"info: it is about a user, and the grant has": {Info: "Ada", Channels: []string{"a"}},
	} {
		if err := srv.Renew(7, grant); !errors.Is(err, push.ErrInvalid) || !strings.Contains(err.Error(), says) {
			t.Errorf("%v, want %s", err, says)
		}
	}
}

func TestPublishingHasListsOfItsOwn(t *testing.T) {
	srv := startClean(t, push.Config{})
	events := srv.Events()
	service := serve(t, srv.Handler(func(r *http.Request) (push.Grant, error) {
		return push.Grant{
			User: "ada", Channels: []string{"news"}, PublishChannels: []string{"cmd", "a*b"},
			PublishPatterns: []string{"typing.*"}, Publish: r.URL.Query().Has("all"),
		}, nil
	}))
	publish := func(conn *websocket.Conn, channel string) string {
		return asks(t, conn, map[string]string{"type": "publish", "channel": channel, "data": "x"})
	}
	for query, ofNews := range map[string]string{"": "publish", "&all": "published"} {
		conn := dial(t, service.URL+"/push?channel=news"+query, &websocket.DialOptions{Subprotocols: []string{"push.v1.json"}})
		connected := event(t, events, push.Connected)
		wantFrameWith(t, conn, `"subscribed","channel":"news"`)
		for channel, want := range map[string]string{
			"cmd": "published", "a*b": "published", "typing.7": "published",
			"news": ofNews, "axb": "publish", "typing": "publish", "other": "publish",
		} {
			if got := publish(conn, channel); got != want {
				t.Errorf("publish to %s%s: %s, want %s", channel, query, got, want)
			}
		}
		// It may not have a channel for that.
		if got := asks(t, conn, map[string]string{"type": "subscribe", "channel": "cmd"}); got != "channel" {
			t.Errorf("subscribe: %s", got)
		}
		err := srv.Renew(connected.Conn, push.Grant{
			User: "ada", Channels: []string{"news"}, PublishChannels: []string{"other"},
		})
		if err != nil {
			t.Fatal(err)
		}
		until := deadline(t)
		for publish(conn, "other") != "published" {
			if until.Err() != nil {
				t.Fatal("the new grant does not come")
			}
		}
		if got := publish(conn, "cmd"); got != "publish" {
			t.Errorf("after the new grant: %s", got)
		}
		conn.CloseNow()
		event(t, events, push.Disconnected)
	}
}
