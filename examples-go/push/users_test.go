package push_test

import (
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"path/filepath"
	"strings"
	"testing"

	"libpush.example/go/internal/harness"
	"libpush.example/go/push"
)

// visit opens a stream on channel c for each of the users. An empty name means a client without a user.
func visit(t *testing.T, srv *push.Server, users ...string) {
	service := serve(t, srv.Handler(func(r *http.Request) (push.Grant, error) {
		return push.Grant{User: r.URL.Query().Get("as"), Channels: []string{"c"}}, nil
	}))
	for _, user := range users {
		conn, _, err := rawStream(service.Listener.Addr().String(), "channel=c&as="+url.QueryEscape(user))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { conn.Close() })
	}
}

// asked returns the result of Users in one line.
func asked(t *testing.T, srv *push.Server, channel, after string, limit int) string {
	t.Helper()
	users, err := srv.Users(channel, after, limit)
	if err != nil {
		t.Fatal(err)
	}
	if users.Hubs != nil {
		t.Errorf("no log is shared: %+v", users.Hubs)
	}
	return fmt.Sprintf("{%v %v %v %v %v}", users.Page, users.Next, users.Count, users.Connections, users.Anonymous)
}

// all returns the names from AllUsers.
func all(t *testing.T, srv *push.Server, channel string) (names []string) {
	t.Helper()
	for user, err := range srv.AllUsers(channel) {
		if err != nil {
			t.Fatal(err)
		}
		names = append(names, user.Name)
	}
	return names
}

func TestUsers(t *testing.T) {
	srv := start(t, push.Config{})
	if got := asked(t, srv, "c", "", 10); got != "{[]  0 0 0}" {
		t.Error("nobody:", got)
	}
	visit(t, srv, "ben", "ada", "", "cy \u00fc", "ada")
	for _, test := range []struct {
		after string
		limit int
		want  string
	}{
		{"", 10, "{[{ada 2} {ben 1} {cy \u00fc 1}]  3 5 1}"},
		{"", 2, "{[{ada 2} {ben 1}] ben 3 5 1}"},
		{"ben", 2, "{[{cy \u00fc 1}]  3 5 1}"},
		{"z", 10000, "{[]  3 5 1}"},
		{"", 0, "{[]  3 5 1}"},
	} {
		if got := asked(t, srv, "c", test.after, test.limit); got != test.want {
			t.Errorf("after %q, %d: %s, want %s", test.after, test.limit, got, test.want)
		}
	}
	// The service's own subscriptions count as one user.
	for range 2 {
		sub, err := srv.Subscribe(t.Context(), []string{"own"}, push.SubscribeOptions{})
		if err != nil {
			t.Fatal(err)
		}
		defer sub.Close()
	}
	own, err := srv.Users("own", "", 10)
	if err != nil || own.Count != 1 || own.Page[0].Connections != 2 || !strings.HasPrefix(own.Page[0].Name, "go:") {
		t.Error(own, err)
	}
}

func TestAllUsers(t *testing.T) {
	var want []string
	for i := range 25 {
		want = append(want, fmt.Sprintf("user-%02d", i))
	}
	address := "unix:" + filepath.Join(t.TempDir(), "attach.sock")
	hub := hubAt(t, address)
	host := attached(t, address)
	visit(t, hub, want[:12]...)
	visit(t, host, want[12:]...)
	harness.Wait(t, "all are there", func() bool { return stats(t, host).Subscriptions == 25 })
	for _, atOnce := range []int{1, 10, 25, 10000} {
		restore := push.SetUsersAtOnce(atOnce)
		for what, srv := range map[string]*push.Server{"hub": hub, "host": host} {
			if got := all(t, srv, "c"); fmt.Sprint(got) != fmt.Sprint(want) {
				t.Errorf("%s, %d at once: %v", what, atOnce, got)
			}
		}
		restore()
	}
	for user := range host.AllUsers("c") {
		if user.Name != "user-00" {
			t.Error(user)
		}
		break
	}
	if got := all(t, host, "nobody's"); len(got) != 0 {
		t.Error(got)
	}
}

func TestUsersErrors(t *testing.T) {
	address := "unix:" + filepath.Join(t.TempDir(), "attach.sock")
	away := start(t, push.Config{Options: map[string]string{"attach": address, "attach_timeout": "50ms"}})
	srv := start(t, push.Config{})
	ended := start(t, push.Config{})
	if err := ended.Stop(deadline(t)); err != nil {
		t.Fatal(err)
	}
	long := strings.Repeat("x", 256)
	for _, test := range []struct {
		srv            *push.Server
		channel, after string
		limit          int
		want           push.Status
	}{
		{srv, "", "", 1, push.ErrInvalid}, {srv, "a\x00b", "", 1, push.ErrInvalid}, {srv, long, "", 1, push.ErrInvalid},
		{srv, "c", "a\x00b", 1, push.ErrInvalid}, {srv, "c", long, 1, push.ErrInvalid}, {srv, "c", "\n", 1, push.ErrInvalid},
		{srv, "c", "", -1, push.ErrInvalid}, {srv, "c", "", 10001, push.ErrInvalid},
		{away, "c", "", 1, push.ErrBusy}, {ended, "c", "", 1, push.ErrClosed},
	} {
		users, err := test.srv.Users(test.channel, test.after, test.limit)
		if !errors.Is(err, test.want) || users.Page != nil {
			t.Errorf("%q, %q, %d: %v, %v", test.channel, test.after, test.limit, users, err)
		}
	}
	times := 0
	for user, err := range ended.AllUsers("c") {
		times++
		if !errors.Is(err, push.ErrClosed) || user.Name != "" {
			t.Error(user, err)
		}
	}
	if times != 1 {
		t.Errorf("it was told %d times", times)
	}
}
