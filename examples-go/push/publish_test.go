package push_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"libpush.example/go/internal/harness"
	"libpush.example/go/push"
)

func TestPublishForms(t *testing.T) {
	srv := start(t, push.Config{})
	sub, err := srv.Subscribe(t.Context(), []string{"news"}, push.SubscribeOptions{})
	if err != nil {
		t.Fatal(err)
	}
	defer sub.Close()

	publish(t, srv, "news", "plain")
	first, err := srv.PublishMessage(push.Message{Channel: "news", Data: []byte("full"), Event: "tick", Key: "k1"})
	if err != nil {
		t.Fatal(err)
	}
	again, err := srv.PublishMessage(push.Message{Channel: "news", Data: []byte("full"), Key: "k1"})
	if err != nil || again != first {
		t.Errorf("the same key: %q, %v; want %q", again, err, first)
	}
	everybody, err := srv.Broadcast(push.Message{Channel: "ignored", Data: []byte{0xff, 0}, Binary: true})
	if err != nil {
		t.Fatal(err)
	}
	batch := []push.Message{
		{Channel: "news", Data: []byte("b0")},
		{Channel: "other", Data: []byte("not for us")},
		{Channel: "news", Event: "e", Key: "k2"},
		{Channel: "news", Data: []byte("b3"), Binary: true},
	}
	positions, err := srv.PublishBatchPositions(batch)
	if err != nil || len(positions) != len(batch) {
		t.Fatalf("%v, %v", positions, err)
	}
	want := []push.Delivery{
		{Channel: "news", Data: []byte("plain")},
		{Channel: "news", Data: []byte("full"), Event: "tick", Position: first},
		{Data: []byte{0xff, 0}, Binary: true, Position: everybody},
		{Channel: "news", Data: []byte("b0"), Position: positions[0]},
		{Channel: "news", Data: []byte{}, Event: "e", Position: positions[2]},
		{Channel: "news", Data: []byte("b3"), Binary: true, Position: positions[3]},
	}
	for i, want := range want {
		got, ok := sub.Next()
		if !ok {
			t.Fatal(sub.Err())
		}
		if want.Position == "" {
			want.Position = got.Position
		}
		if fmt.Sprintf("%+v", got) != fmt.Sprintf("%+v", want) {
			t.Errorf("%d: got %+v, want %+v", i, got, want)
		}
	}
	if s := stats(t, srv); s.Published != 7 || s.Duplicates != 1 {
		t.Errorf("published %d, duplicates %d", s.Published, s.Duplicates)
	}
}

func TestErrorsAreUnderstood(t *testing.T) {
	srv := start(t, push.Config{Options: map[string]string{"max_message": "100"}})
	large := make([]byte, 101)
	long := strings.Repeat("x", 256)
	for _, test := range []struct {
		what string
		err  error
		want push.Status
		says string
	}{
		{"empty channel", srv.Publish("", nil), push.ErrInvalid, "publish"},
		{"long channel", srv.Publish(long, nil), push.ErrInvalid, "255"},
		{"NUL in the channel", srv.Publish("a\x00b", nil), push.ErrInvalid, "control"},
		{"control character", srv.Publish("a\nb", nil), push.ErrInvalid, "publish"},
		{"not UTF-8", srv.Publish("\xff", nil), push.ErrInvalid, "publish"},
		{"too large", srv.Publish("c", large), push.ErrTooLarge, "publish"},
		{"batch, one too large", srv.PublishBatch([]push.Message{{Channel: "c"}, {Channel: "c", Data: large}}), push.ErrTooLarge, "batch"},
		{"batch, no channel", srv.PublishBatch([]push.Message{{}}), push.ErrInvalid, "channel"},
		{"batch, too many", srv.PublishBatch(tooMany()), push.ErrInvalid, "batch"},
		{"message, reserved event", second(srv.PublishMessage(push.Message{Channel: "c", Event: "push-gap"})), push.ErrInvalid, "publish"},
		{"message, long key", second(srv.PublishMessage(push.Message{Channel: "c", Key: long})), push.ErrInvalid, "key"},
		{"message, no channel", second(srv.PublishMessage(push.Message{})), push.ErrInvalid, "channel"},
		{"broadcast, NUL in the event", second(srv.Broadcast(push.Message{Event: "\x00"})), push.ErrInvalid, "event"},
		{"send to nobody", srv.Send(77, []byte("x")), push.ErrNotFound, "send"},
		{"send no UTF-8", srv.Send(77, []byte{0xff}), push.ErrInvalid, "send"},
		{"close nobody", srv.Close(77, 1000, ""), push.ErrNotFound, "close"},
		{"close code", srv.Close(77, 70000, ""), push.ErrInvalid, "4999"},
		{"close reason", srv.Close(77, 1000, long), push.ErrInvalid, "reason"},
		{"allow nobody", srv.Allow(0, push.Grant{Channels: []string{"c"}}), push.ErrNotFound, "allow"},
		{"allow nothing", srv.Allow(1, push.Grant{}), push.ErrInvalid, "no channels"},
		{"deny nobody", srv.Deny(0, push.ErrForbidden), push.ErrNotFound, "deny"},
		{"deny, status", srv.Deny(1, &push.Refusal{Status: -1}), push.ErrInvalid, "401"},
		{"disconnect, no user", srv.Disconnect("", 4403, ""), push.ErrInvalid, "disconnect"},
		{"revoke, no user", srv.RevokeChannel("", "c", ""), push.ErrInvalid, "revoke"},
		{"revoke, pattern", srv.RevokeChannel("u", "a*b*", ""), push.ErrInvalid, "revoke"},
		{"revoke, reason", srv.RevokeChannel("u", "c", long), push.ErrInvalid, "reason"},
		{"renew nobody", srv.Renew(77, push.Grant{Channels: []string{"c"}}), push.ErrNotFound, "renew"},
		{"renew nothing", srv.Renew(77, push.Grant{}), push.ErrInvalid, "no channels"},
		{"disconnect, code", srv.Disconnect("u", -1, ""), push.ErrInvalid, "4999"},
	} {
		if !errors.Is(test.err, test.want) {
			t.Errorf("%s: %v is not %v", test.what, test.err, test.want)
		}
		var asError *push.Error
		var asStatus push.Status
		if !errors.As(test.err, &asError) || !errors.As(test.err, &asStatus) || asStatus != test.want {
			t.Errorf("%s: %v: As does not find it", test.what, test.err)
		}
		if test.err == nil || !strings.Contains(test.err.Error(), test.says) {
			t.Errorf("%s: %v does not say %q", test.what, test.err, test.says)
		}
	}
	if errors.Is(srv.Publish("", nil), push.ErrBusy) {
		t.Error("invalid is busy")
	}
	if s := stats(t, srv); s.Published != 0 {
		t.Errorf("%d messages were published by calls that failed", s.Published)
	}
}

func second(_ push.Position, err error) error { return err }

func tooMany() []push.Message {
	batch := make([]push.Message, 10001)
	for i := range batch {
		batch[i].Channel = "c"
	}
	return batch
}

func TestStartSaysWhatIsWrong(t *testing.T) {
	taken := start(t, push.Config{Listen: []string{"127.0.0.1:0"}})
	addresses := taken.Addresses()
	if len(addresses) != 1 {
		t.Fatal(addresses)
	}
	for _, test := range []struct {
		config push.Config
		want   push.Status
		says   []string
	}{
		{push.Config{Options: map[string]string{"no_such": "1"}}, push.ErrConfig, []string{"no_such", "README"}},
		{push.Config{Options: map[string]string{"history_count": "many"}}, push.ErrConfig, []string{"history_count", "many", "1000000"}},
		{push.Config{Options: map[string]string{"path": "/a\x00b"}}, push.ErrConfig, []string{"NUL"}},
		{push.Config{Options: map[string]string{"log": "pull"}}, push.ErrConfig, []string{"option log", "Logger"}},
		{push.Config{Options: map[string]string{"log_fd": "2"}}, push.ErrConfig, []string{"option log_fd", "Logger"}},
		{push.Config{Listen: addresses}, push.ErrSystem, []string{addresses[0]}},
		{push.Config{File: "no/such/file.toml"}, push.ErrSystem, []string{"no/such/file.toml"}},
		{push.Config{File: "a\x00b"}, push.ErrConfig, []string{"NUL"}},
	} {
		srv, err := push.Start(test.config)
		if srv != nil || !errors.Is(err, test.want) {
			t.Errorf("%+v: %v", test.config, err)
			continue
		}
		for _, says := range test.says {
			if !strings.Contains(err.Error(), says) {
				t.Errorf("%v does not say %q", err, says)
			}
		}
	}
}

func TestPublishAllocatesNothing(t *testing.T) {
	if harness.Race {
		t.Skip("under the race detector a sync.Pool forgets on purpose")
	}
	srv := start(t, push.Config{})
	data := []byte("some text")
	batch := []push.Message{{Channel: "news", Data: data, Event: "e"}, {Channel: "news", Data: data}}
	for what, call := range map[string]func() error{
		"Publish":      func() error { return srv.Publish("news", data) },
		"PublishBatch": func() error { return srv.PublishBatch(batch) },
	} {
		var failed error
		if n := testing.AllocsPerRun(200, func() {
			if err := call(); err != nil {
				failed = err
			}
		}); n > 0.5 || failed != nil {
			t.Errorf("%s: %.1f allocations a call, %v", what, n, failed)
		}
	}
}

// A mailbox of 16 is soon full when its shard is busy.
func TestPublishContextWaitsForRoom(t *testing.T) {
	srv := start(t, push.Config{Options: map[string]string{"mailbox": "16", "threads": "1", "history_count": "10000"}})
	sub, err := srv.Subscribe(t.Context(), []string{"c"}, push.SubscribeOptions{})
	if err != nil {
		t.Fatal(err)
	}
	defer sub.Close()
	const each, publishers = 500, 4
	var all sync.WaitGroup
	for range publishers {
		all.Go(func() {
			for range each {
				if _, err := srv.PublishContext(t.Context(), push.Message{Channel: "c", Data: []byte("x")}); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	for range each * publishers {
		if d, ok := sub.Next(); !ok || d.Gap {
			t.Fatalf("%+v, %v", d, sub.Err())
		}
	}
	all.Wait()
	t.Logf("busy %d times", stats(t, srv).Busy)

	ended, cancel := context.WithTimeout(t.Context(), time.Millisecond)
	defer cancel()
	for range 100000 { // until a call finds no room and its context has ended
		if _, err := srv.PublishContext(ended, push.Message{Channel: "c"}); err != nil {
			if !errors.Is(err, context.DeadlineExceeded) || !errors.Is(err, push.ErrBusy) {
				t.Errorf("%v is not both", err)
			}
			return
		}
	}
	t.Log("the library always had room")
}
