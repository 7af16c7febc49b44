package push_test

import (
	"net/http"
	"reflect"
	"testing"

	"libpush.example/go/push"
)

// told waits for the next news of who is on the channel "room".
func told(t *testing.T, sub *push.Subscription) push.Presence {
	t.Helper()
	d := next(t, sub)
	if d.Presence == nil || d.Channel != "room" || d.Position != "" || d.Data != nil || d.Gap || d.Begin || d.End {
		t.Fatalf("%+v", d)
	}
	return *d.Presence
}

func wantPresence(t *testing.T, sub *push.Subscription, want push.Presence) {
	t.Helper()
	if got := told(t, sub); !reflect.DeepEqual(got, want) {
		t.Fatalf("%+v, want %+v", got, want)
	}
}

func TestASubscriptionIsToldWhoIsThere(t *testing.T) {
	srv := startClean(t, push.Config{Options: map[string]string{"channel.*.presence": "true", "presence_grace": "0s"}})
	events := srv.Events()
	grant := push.Grant{User: "ada", Info: `{"name":"Ada"}`, Subscribe: []string{"room"}}
	service := serve(t, srv.Handler(func(*http.Request) (push.Grant, error) { return grant, nil }))
	sub := subscribe(t, srv, push.SubscribeOptions{Presence: true}, "room")
	// The service itself is not there.
	wantPresence(t, sub, push.Presence{Users: []push.Member{}})

	response, _ := get(t, http.DefaultClient, service.URL+"/push?transport=stream", nil)
	wantPresence(t, sub, push.Presence{Join: &push.Member{User: "ada", Info: `{"name":"Ada"}`}, Count: 1})
	renewed := grant // the handler's goroutine has read the other one
	renewed.Info = "Countess"
	if err := srv.Renew(event(t, events, push.Connected).Conn, renewed); err != nil {
		t.Fatal(err)
	}
	wantPresence(t, sub, push.Presence{Join: &push.Member{User: "ada", Info: "Countess"}, Count: 1})
	// Messages come between them.
	publish(t, srv, "room", "x")
	if d := next(t, sub); string(d.Data) != "x" || d.Presence != nil {
		t.Errorf("%+v", d)
	}
	if err := sub.Resume(); err != nil {
		t.Fatal(err)
	}
	wantPresence(t, sub, push.Presence{Users: []push.Member{{User: "ada", Info: "Countess"}}, Count: 1})
	response.Body.Close()
	wantPresence(t, sub, push.Presence{Leave: &push.Member{User: "ada"}})
}

func TestAChannelWithoutPresenceSaysSo(t *testing.T) {
	srv := startClean(t, push.Config{})
	sub := subscribe(t, srv, push.SubscribeOptions{Presence: true}, "room")
	wantPresence(t, sub, push.Presence{Off: true})
	// Who does not ask is told nothing.
	other := subscribe(t, srv, push.SubscribeOptions{}, "room")
	publish(t, srv, "room", "x")
	if d := next(t, other); string(d.Data) != "x" {
		t.Errorf("%+v", d)
	}
}

func TestAboveABoundOnlyANumberIsTold(t *testing.T) {
	srv := startClean(t, push.Config{Options: map[string]string{
		"channel.*.presence": "true", "presence_grace": "0s", "presence_detail": "0",
	}})
	service := serve(t, srv.Handler(func(*http.Request) (push.Grant, error) {
		return push.Grant{User: "ada", Subscribe: []string{"room"}}, nil
	}))
	get(t, http.DefaultClient, service.URL+"/push?transport=stream", nil)
	sub := subscribe(t, srv, push.SubscribeOptions{Presence: true}, "room")
	for seen := told(t, sub); seen.Count != 1 || seen.Users != nil; seen = told(t, sub) {
		if seen.Join != nil || seen.Leave != nil {
			t.Fatalf("%+v", seen)
		}
	}
}
