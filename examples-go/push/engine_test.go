package push_test

import (
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"libpush.example/go/push"
)

// onDisk is the one option that keeps a history through restarts.
func onDisk(directory string) push.Config {
	return push.Config{Options: map[string]string{"engine": "file:" + directory}}
}

func publishAt(t *testing.T, srv *push.Server, data, key string) push.Position {
	t.Helper()
	at, err := srv.PublishMessage(push.Message{Channel: "c", Data: []byte(data), Key: key})
	if err != nil {
		t.Fatal(err)
	}
	return at
}

func TestHistoryOnDiskSurvivesRestarts(t *testing.T) {
	directory := filepath.Join(t.TempDir(), "log")
	srv := start(t, onDisk(directory))
	publishAt(t, srv, "before", "")
	sub, err := srv.Subscribe(t.Context(), []string{"c"}, push.SubscribeOptions{Last: 1})
	if err != nil {
		t.Fatal(err)
	}
	if d, ok := sub.Next(); !ok || string(d.Data) != "before" {
		t.Fatalf("%+v, %v", d, sub.Err())
	}
	seen := sub.Position()
	sub.Close()
	// Five lives of the server, in each of which a few messages come that the subscriber misses.
	var missed []string
	var keyed push.Position
	for life := range 5 {
		publish(t, srv, "other", "not of the channel")
		for n := range 3 {
			missed = append(missed, fmt.Sprint(life, n))
			publish(t, srv, "c", missed[len(missed)-1])
		}
		at := publishAt(t, srv, "once", "k")
		if life == 0 {
			keyed, missed = at, append(missed, "once")
		} else if at != keyed {
			t.Fatalf("life %d: the key is at %s, and was at %s", life, at, keyed)
		}
		stopWithin(t, srv, 5*time.Second)
		srv = start(t, onDisk(directory))
	}
	sub, err = srv.Subscribe(t.Context(), []string{"c"}, push.SubscribeOptions{Since: seen})
	if err != nil {
		t.Fatal(err)
	}
	defer sub.Close()
	for _, want := range append(missed, "now") {
		if want == "now" {
			publish(t, srv, "c", want)
		}
		if d, ok := sub.Next(); !ok || d.Gap || string(d.Data) != want {
			t.Fatalf("%+v is not %q, %v", d, want, sub.Err())
		}
	}
	if s := stats(t, srv); s.Gaps != 0 || s.Published != 1 {
		t.Errorf("%+v", s)
	}
}

func TestADirectoryHasOneServer(t *testing.T) {
	directory := filepath.Join(t.TempDir(), "log")
	first := start(t, onDisk(directory))
	for range 2 {
		srv, err := push.Start(onDisk(directory))
		if srv != nil || !errors.Is(err, push.ErrSystem) {
			t.Fatalf("%v, %v", srv, err)
		}
		for _, says := range []string{directory, "another hub uses this directory"} {
			if !strings.Contains(err.Error(), says) {
				t.Errorf("%v does not say %q", err, says)
			}
		}
	}
	at := publishAt(t, first, "here", "k")
	stopWithin(t, first, 5*time.Second)
	if again := publishAt(t, start(t, onDisk(directory)), "again", "k"); again != at {
		t.Errorf("the key is at %s, and was at %s", again, at)
	}
}
