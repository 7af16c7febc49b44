package push_test

import (
	"fmt"
	"net/http"
	"path/filepath"
	"testing"
	"time"

	"github.com/coder/websocket"

	"libpush.example/go/internal/harness"
	"libpush.example/go/push"
)

// A host publishes at one hub, and a subscriber at another one gets everything, also when the host's hub ends and
// another one takes its place.
func TestAHostPublishesAtHubsThatShareALog(t *testing.T) {
	redis, address := harness.StartRedis(t), "unix:"+filepath.Join(t.TempDir(), "attach.sock")
	withHosts := sharing(redis)
	withHosts.Options["attach_listen"] = address
	hub, other := start(t, withHosts), start(t, sharing(redis))
	host := attached(t, address)
	at, err := host.PublishMessage(push.Message{Channel: "c", Data: []byte("first"), Key: "k"})
	if err != nil {
		t.Fatal(err)
	}
	if again := publishAt(t, other, "again", "k"); again != at {
		t.Fatalf("the key is at %s here, and at %s there", again, at)
	}
	sub, err := other.Subscribe(t.Context(), []string{"c"}, push.SubscribeOptions{Since: at})
	if err != nil {
		t.Fatal(err)
	}
	defer sub.Close()
	for life := range 3 {
		for n := range 20 {
			want := fmt.Sprint(life, ".", n)
			if n%2 == 0 {
				publish(t, host, "c", want)
			} else {
				publishAt(t, host, want, "")
			}
			if d, ok := sub.Next(); !ok || d.Gap || string(d.Data) != want {
				t.Fatalf("%+v is not %q, %v", d, want, sub.Err())
			}
		}
		stopWithin(t, hub, 5*time.Second)
		hub = start(t, withHosts)
		harness.Wait(t, "the host is attached again", func() bool { return stats(t, hub).Hosts == 1 })
	}
}

// A user is disconnected at all hubs, and loses a channel at all of them.
func TestUsersAreSentAwayAtAllHubs(t *testing.T) {
	redis := harness.StartRedis(t)
	hub, other := start(t, sharing(redis)), start(t, sharing(redis))
	client := func(user string) *websocket.Conn {
		service := serve(t, other.Handler(func(*http.Request) (push.Grant, error) {
			return push.Grant{User: user, Channels: []string{"news"}}, nil
		}))
		return dial(t, service.URL+"/push?channel=news", nil)
	}
	ann, bob, cat := client("ann"), client("bob"), client("cat")
	harness.Wait(t, "all are there", func() bool { return stats(t, other).WebSockets == 3 })
	publish(t, hub, "news", "before")
	if err := hub.Disconnect("ann", 4403, "go"); err != nil {
		t.Fatal(err)
	}
	if err := hub.RevokeChannel("bob", "news", "moved"); err != nil {
		t.Fatal(err)
	}
	publish(t, hub, "news", "after")
	for _, conn := range []*websocket.Conn{ann, bob} {
		wantFrame(t, conn, "before")
		if _, data, err := conn.Read(deadline(t)); websocket.CloseStatus(err) != 4403 {
			t.Errorf("%q, %v", data, err)
		}
	}
	wantFrame(t, cat, "before")
	wantFrame(t, cat, "after")
}
