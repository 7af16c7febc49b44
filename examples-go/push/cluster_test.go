package push_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"libpush.example/go/internal/harness"
	"libpush.example/go/push"
)

// sharing is the one option with which servers share a log.
func sharing(redis *harness.Redis) push.Config {
	return push.Config{Options: map[string]string{"engine": redis.URL(), "engine_timeout": "1m"}}
}

func TestServersShareALogInRedis(t *testing.T) {
	redis := harness.StartRedis(t)
	one, two := start(t, sharing(redis)), start(t, sharing(redis))
	sub := subscribe(t, two, push.SubscribeOptions{}, "c")
	web := serve(t, two.Handler(push.Anyone))
	client := dial(t, web.URL+"/push?channel=c", nil)
	var seen push.Position
	for n := range 3 {
		data := fmt.Sprint("message ", n)
		at := publishAt(t, one, data, "")
		if d := next(t, sub); string(d.Data) != data || d.Position != at {
			t.Fatalf("%+v is not %q at %s", d, data, at)
		}
		wantFrame(t, client, data)
		if n == 0 {
			seen = at
		}
	}
	// A key counts at both.
	if at, again := publishAt(t, one, "once", "k"), publishAt(t, two, "twice", "k"); at != again {
		t.Errorf("the key is at %s and at %s", at, again)
	}
	if d := next(t, sub); string(d.Data) != "once" {
		t.Fatalf("%+v", d)
	}

	// A client of a server that ends goes on at the other, with its position.
	stopWithin(t, one, 5*time.Second)
	if err := one.Publish("c", []byte("late")); !errors.Is(err, push.ErrClosed) {
		t.Errorf("%v", err)
	}
	publish(t, two, "c", "after")
	moved := subscribe(t, two, push.SubscribeOptions{Since: seen}, "c")
	for _, want := range []string{"message 1", "message 2", "once", "after"} {
		if d := next(t, moved); d.Gap || string(d.Data) != want {
			t.Fatalf("%+v is not %q", d, want)
		}
	}
	if d := next(t, sub); string(d.Data) != "after" {
		t.Fatalf("%+v", d)
	}

	// What is published while the Redis is away comes when it is back.
	redis.Kill()
	publish(t, two, "c", "meanwhile")
	redis.Start(t)
	for _, s := range []*push.Subscription{sub, moved} {
		if d := next(t, s); d.Gap || string(d.Data) != "meanwhile" {
			t.Fatalf("%+v", d)
		}
	}
}

func TestUsersOfAllServersThatShareALog(t *testing.T) {
	redis := harness.StartRedis(t)
	config := sharing(redis)
	config.Options["engine_timeout"] = "3s"
	one, two := start(t, config), start(t, config)
	visit(t, one, "ada", "ben")
	visit(t, two, "ada", "")
	var users push.Users
	until := func(what string, is func(push.Users) bool) {
		t.Helper()
		for end := time.Now().Add(harness.Patience); ; time.Sleep(10 * time.Millisecond) {
			var err error
			users, err = one.Users("c", "", 10)
			if err != nil && !errors.Is(err, push.ErrBusy) || time.Now().After(end) {
				t.Fatalf("%s: %+v, %+v, %v", what, users, users.Hubs, err)
			}
			if err == nil && is(users) {
				return
			}
		}
	}
	until("both answer", func(u push.Users) bool { return u.Hubs.Partial == "" && u.Hubs.Asked == 2 && u.Connections == 4 })
	want := "[{ada 2} {ben 1}] 2 1"
	if got := fmt.Sprint(users.Page, users.Count, users.Anonymous); got != want {
		t.Errorf("%s is not %s", got, want)
	}
	stopWithin(t, two, 5*time.Second)
	// It has said that it ends, so nobody waits for it.
	until("one is asked", func(u push.Users) bool { return u.Hubs.Asked == 1 && u.Hubs.Partial == "" })
	if users.Hubs.Answered != 1 || len(users.Hubs.Missing) != 0 || users.Count != 2 {
		t.Errorf("%+v, %+v", users, users.Hubs)
	}
	redis.Kill()
	until("only this one was asked", func(u push.Users) bool { return strings.Contains(u.Hubs.Partial, "only this hub was asked") })
}

func TestALogThatDoesNotAnswerIsATimeout(t *testing.T) {
	redis := harness.StartRedis(t)
	config := sharing(redis)
	config.Options["engine_timeout"] = "300ms"
	srv := start(t, config)
	redis.Kill()
	if _, err := srv.PublishMessage(push.Message{Channel: "c", Data: []byte("x"), Key: "k"}); !errors.Is(err, push.ErrTimeout) {
		t.Errorf("%v", err)
	}
	_, err := push.Start(push.Config{Options: map[string]string{"engine": "redis:/nowhere"}})
	if !errors.Is(err, push.ErrConfig) || !strings.Contains(err.Error(), "redis+sentinel://") {
		t.Errorf("%v does not say what is allowed", err)
	}
}
