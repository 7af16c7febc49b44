package push_test

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"strings"
	"testing"
	"time"

	"libpush.example/go/internal/harness"
	"libpush.example/go/push"
)

func subscribe(t *testing.T, srv *push.Server, options push.SubscribeOptions, channels ...string) *push.Subscription {
	t.Helper()
	sub, err := srv.Subscribe(t.Context(), channels, options)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { sub.Close() })
	return sub
}

func next(t *testing.T, sub *push.Subscription) push.Delivery {
	t.Helper()
	d, ok := sub.Next()
	if !ok {
		t.Fatalf("it is over: %v", sub.Err())
	}
	return d
}

func TestSubscribeGoesOnFromAPosition(t *testing.T) {
	srv := startClean(t, push.Config{})
	for i := range 5 {
		publish(t, srv, "a", fmt.Sprint("old ", i))
	}
	sub := subscribe(t, srv, push.SubscribeOptions{Last: 2}, "a", "b & ü?")
	publish(t, srv, "b & ü?", "new")
	for _, want := range []string{"old 3", "old 4", "new"} {
		if d := next(t, sub); string(d.Data) != want {
			t.Errorf("%+v, want %s", d, want)
		}
	}
	at := sub.Position()
	sub.Close()
	if d, ok := sub.Next(); ok || sub.Err() != nil {
		t.Errorf("after Close: %+v, %v", d, sub.Err())
	}
	publish(t, srv, "a", "missed")
	again := subscribe(t, srv, push.SubscribeOptions{Since: at}, "a")
	if d := next(t, again); string(d.Data) != "missed" || d.Position != again.Position() {
		t.Errorf("%+v", d)
	}
	// With a position of another life, the subscriber is told that messages may be missing.
	foreign := subscribe(t, srv, push.SubscribeOptions{Since: "otherlife-1"}, "a")
	if d := next(t, foreign); !d.Gap || d.Channel != "a" {
		t.Errorf("%+v", d)
	}
	fresh := subscribe(t, srv, push.SubscribeOptions{}, "a")
	if fresh.Position() == "" {
		t.Error("a subscription without a position")
	}
}

func TestSubscribeToPatterns(t *testing.T) {
	harness.CheckLeaks(t)
	srv := start(t, push.Config{Options: map[string]string{"max_patterns": "2", "patterns_total": "2"}})
	patterns := []string{"news.*", "room.1*"}
	sub := subscribe(t, srv, push.SubscribeOptions{Patterns: patterns}, "news.a")
	patterns[0] = "x*" // it has a copy
	wants := func(channel, data string) {
		t.Helper()
		if d := next(t, sub); d.Channel != channel || string(d.Data) != data || d.Gap || d.End {
			t.Errorf("%+v, want %s of %s", d, data, channel)
		}
	}
	for _, channel := range []string{"news.a", "other", "news.new", "room.2", "room.12"} {
		publish(t, srv, channel, "1")
	}
	for _, channel := range []string{"news.a", "news.new", "room.12"} {
		wants(channel, "1")
	}
	publish(t, srv, "news.late", "2")
	publish(t, srv, "news.a", "3")
	if err := sub.Resume(); err != nil {
		t.Fatal(err)
	}
	wants("news.late", "2")
	wants("news.a", "3")
	// A stream that a pattern brings ends once, and the subscription goes on.
	if _, err := srv.End("news.late"); err != nil {
		t.Fatal(err)
	}
	if d := next(t, sub); !d.End || d.Channel != "news.late" {
		t.Errorf("%+v", d)
	}
	if err := sub.Resume(); err != nil {
		t.Fatal(err)
	}
	publish(t, srv, "news.late", "4")
	wants("news.late", "4")

	for pattern, want := range map[string]struct {
		status push.Status
		says   string
	}{
		"news": {push.ErrInvalid, "it ends in *"}, "a*b*": {push.ErrInvalid, "a*b*"}, "user:*": {push.ErrInvalid, "user:"},
		"one-more.*": {push.ErrBusy, "patterns_total"},
	} {
		_, err := srv.Subscribe(t.Context(), nil, push.SubscribeOptions{Patterns: []string{pattern}})
		if !errors.Is(err, want.status) || !strings.Contains(err.Error(), want.says) {
			t.Errorf("%s: %v", pattern, err)
		}
	}
}

func TestSubscribeRefusals(t *testing.T) {
	srv := beginClean(t, push.Config{Options: map[string]string{"max_channels": "2"}})
	ended, cancel := context.WithCancel(context.Background())
	cancel()
	for what, test := range map[string]struct {
		ctx      context.Context
		channels []string
		options  push.SubscribeOptions
		want     error
		says     string
	}{
		"no channels": {t.Context(), nil, push.SubscribeOptions{}, push.ErrInvalid, "channel"},
		"three":       {t.Context(), []string{"a", "b", "c"}, push.SubscribeOptions{}, push.ErrInvalid, "max_channels"},
		"patterns": {
			t.Context(), nil, push.SubscribeOptions{Patterns: []string{"a*"}}, push.ErrInvalid, "max_patterns",
		},
		"bad name":      {t.Context(), []string{"a\nb"}, push.SubscribeOptions{}, push.ErrInvalid, "control"},
		"bad position":  {t.Context(), []string{"a"}, push.SubscribeOptions{Since: "x"}, push.ErrInvalid, "position"},
		"too many":      {t.Context(), []string{"a"}, push.SubscribeOptions{Last: 10001}, push.ErrInvalid, "last"},
		"both":          {t.Context(), []string{"a"}, push.SubscribeOptions{Last: 1, Since: "a-1"}, push.ErrInvalid, "together"},
		"ended context": {ended, []string{"a"}, push.SubscribeOptions{}, context.Canceled, ""},
	} {
		if _, err := srv.Subscribe(test.ctx, test.channels, test.options); !errors.Is(err, test.want) || !strings.Contains(err.Error(), test.says) {
			t.Errorf("%s: %v", what, err)
		}
	}
	if err := srv.Stop(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, err := srv.Subscribe(t.Context(), []string{"a"}, push.SubscribeOptions{}); !errors.Is(err, push.ErrClosed) {
		t.Error(err)
	}
}

func TestASubscriptionThatIsCutOffBeforeAPositionAsksForTheNewestMessagesAgain(t *testing.T) {
	srv := startClean(t, push.Config{Options: map[string]string{"outbox": "64KB"}})
	for _, channel := range []string{"a", "b", "b"} {
		publish(t, srv, channel, strings.Repeat(channel, 40_000))
	}
	sub := subscribe(t, srv, push.SubscribeOptions{Last: 10}, "a", "b")
	for range 2 {
		if d := next(t, sub); !d.Gap || d.Channel != "a" || d.Position != "" || sub.Position() != "" {
			t.Fatalf("%+v, %s", d, sub.Position())
		}
		// The library has ended the connection here.
		if err := sub.Resume(); err != nil {
			t.Fatal(err)
		}
	}
	next(t, sub)
	if d := next(t, sub); !d.Gap || d.Channel != "b" || d.Position == "" || sub.Position() != d.Position {
		t.Errorf("%+v, %s", d, sub.Position())
	}
	if d := next(t, sub); d.Gap || d.Channel != "b" || len(d.Data) != 40_000 {
		t.Errorf("%+v", d)
	}
}

func TestSubscriptionsEnd(t *testing.T) {
	srv := beginClean(t, push.Config{})
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	ended := make(chan error, 1)
	over := func(sub *push.Subscription, how func()) error {
		go func() {
			for range sub.All() {
			}
			ended <- sub.Err()
		}()
		time.Sleep(20 * time.Millisecond)
		how()
		select {
		case err := <-ended:
			return err
		case <-time.After(harness.Patience):
			t.Fatal("Next still waits")
			return nil
		}
	}
	closed := subscribe(t, srv, push.SubscribeOptions{}, "c")
	if err := over(closed, func() { closed.Close() }); err != nil {
		t.Errorf("closed: %v", err)
	}
	bound, err := srv.Subscribe(ctx, []string{"c"}, push.SubscribeOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if err := over(bound, cancel); !errors.Is(err, context.Canceled) {
		t.Errorf("context: %v", err)
	}
	stopped := subscribe(t, srv, push.SubscribeOptions{}, "c")
	if err := over(stopped, func() { _ = srv.Stop(t.Context()) }); !errors.Is(err, push.ErrClosed) {
		t.Errorf("stopped: %v", err)
	}
}

// A subscription that is too slow for its outbox goes on by itself, and gets all messages that the history has.
func TestSlowSubscriptionRecovers(t *testing.T) {
	srv := startClean(t, push.Config{Options: map[string]string{"outbox": "8KB", "history_count": "100000"}})
	sub := subscribe(t, srv, push.SubscribeOptions{}, "c")
	const count = 3000
	payload := strings.Repeat("x", 1000)
	for i := range count {
		publish(t, srv, "c", fmt.Sprint(i, payload))
		if i%500 == 499 {
			time.Sleep(10 * time.Millisecond) // so that the outbox fills, and not the mailbox
		}
	}
	harness.Wait(t, "it was too slow", func() bool { return stats(t, srv).SlowClosed > 0 })
	for i := range count {
		d := next(t, sub)
		if d.Gap || !strings.HasPrefix(string(d.Data), fmt.Sprint(i, "x")) {
			t.Fatalf("%d: %.30q, gap %v", i, d.Data, d.Gap)
		}
	}
}

// Messages that are no longer in the history are announced as a gap.
func TestSlowSubscriptionIsToldOfGaps(t *testing.T) {
	srv := startClean(t, push.Config{Options: map[string]string{"outbox": "8KB", "history_count": "10"}})
	sub := subscribe(t, srv, push.SubscribeOptions{}, "c")
	payload := strings.Repeat("x", 10_000)
	for i := range 500 {
		publish(t, srv, "c", fmt.Sprint(i, payload))
	}
	harness.Wait(t, "it was too slow", func() bool { return stats(t, srv).SlowClosed > 0 })
	gaps, last := 0, -1
	for last < 499 {
		d := next(t, sub)
		if d.Gap {
			gaps++
			continue
		}
		var number int
		if _, err := fmt.Sscanf(string(d.Data), "%dx", &number); err != nil {
			t.Fatal(err)
		}
		if number <= last || (number != last+1 && gaps == 0) {
			t.Fatalf("%d after %d, and %d gaps were told", number, last, gaps)
		}
		last = number
	}
	if gaps == 0 {
		t.Error("no gap was told")
	}
}

func TestForgottenSubscriptionsAreClosed(t *testing.T) {
	srv := startClean(t, push.Config{})
	events := srv.Events()
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	for range 50 {
		if _, err := srv.Subscribe(ctx, []string{"c"}, push.SubscribeOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	harness.Wait(t, "they are closed", func() bool {
		runtime.GC()
		return stats(t, srv).Streams == 0
	})
	select {
	case e := <-events:
		t.Errorf("the service was told of its own subscription: %+v", e)
	default:
	}
}
