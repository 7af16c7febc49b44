package push_test

import (
	"errors"
	"io"
	"net"
	"net/http"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"libpush.example/go/internal/harness"
	"libpush.example/go/push"
)

// hubAt starts a hub for hosts of other processes. (A server with attach_listen is one, like pushd.)
func hubAt(t *testing.T, address string) *push.Server {
	return start(t, push.Config{Options: map[string]string{"attach_listen": address}})
}

func attached(t *testing.T, address string) *push.Server {
	return start(t, push.Config{Options: map[string]string{"attach": address, "attach_timeout": "1m", "attach_name": "go"}})
}

// attachedFor is a server that waits for its hub no longer than that. It is attached: a slow machine may need longer
// for this than a call waits.
func attachedFor(t *testing.T, address, timeout string) *push.Server {
	srv := start(t, push.Config{Options: map[string]string{"attach": address, "attach_timeout": timeout}})
	harness.Wait(t, "it is attached", func() bool {
		_, err := srv.PublishMessage(push.Message{Channel: "of nobody", Data: []byte("x")})
		if err != nil && !errors.Is(err, push.ErrBusy) && !errors.Is(err, push.ErrTimeout) {
			t.Fatal(err)
		}
		return err == nil
	})
	return srv
}

// A hub has two hosts, as if they were two processes. One hands a client over. The client gets messages of the other,
// and outlives both.
func TestAttachedServersShareAHub(t *testing.T) {
	address := "unix:" + filepath.Join(t.TempDir(), "attach.sock")
	hub := hubAt(t, address)
	one, other := attached(t, address), attached(t, address)
	service := serve(t, one.Handler(func(*http.Request) (push.Grant, error) {
		return push.Grant{User: "ann", Channels: []string{"news"}}, nil
	}))
	client := dial(t, service.URL+"/push?channel=news", nil)
	position, err := other.PublishMessage(push.Message{Channel: "news", Data: []byte("from the other"), Key: "1"})
	if err != nil || position == "" {
		t.Fatal(position, err)
	}
	wantFrame(t, client, "from the other")
	// Both see the hub's counters, and the hub may still be counting.
	harness.Wait(t, "one and the same", func() bool { return stats(t, one) == stats(t, other) })
	if s := stats(t, one); s.WebSockets != 1 || s.Hosts != 2 {
		t.Errorf("%+v", s)
	}
	// The clients are the hub's, so no host can send them away.
	if err := one.Drain(time.Second); !errors.Is(err, push.ErrUnsupported) {
		t.Error(err)
	}
	if err := one.Stop(deadline(t)); err != nil {
		t.Fatal(err)
	}
	publish(t, other, "news", "after its host's end")
	wantFrame(t, client, "after its host's end")
	if err := other.Stop(deadline(t)); err != nil {
		t.Fatal(err)
	}
	publish(t, hub, "news", "from the hub")
	wantFrame(t, client, "from the hub")
}

func TestAttachedWithoutAHub(t *testing.T) {
	address := "unix:" + filepath.Join(t.TempDir(), "attach.sock")
	srv := start(t, push.Config{Options: map[string]string{"attach": address, "attach_timeout": "50ms"}})
	publish(t, srv, "news", "waits")
	if _, err := srv.PublishMessage(push.Message{Channel: "news", Data: []byte("x")}); !errors.Is(err, push.ErrBusy) {
		t.Error(err)
	}
	hub := hubAt(t, address)
	for end := time.Now().Add(harness.Patience); stats(t, hub).Published == 0; time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("what waited was not published")
		}
	}
}

// answers is the way from a hub to its hosts. While it is locked, nothing passes.
type answers struct{ sync.Mutex }

func (a *answers) pass(to io.Writer, part []byte) error {
	a.Lock()
	defer a.Unlock()
	_, err := to.Write(part)
	return err
}

// answersOf puts a socket in front of a hub's socket.
func answersOf(t *testing.T, path, behind string) *answers {
	listener, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { listener.Close() })
	a := new(answers)
	go func() {
		for {
			host, err := listener.Accept()
			if err != nil {
				return
			}
			hub, err := net.Dial("unix", behind)
			if err != nil {
				host.Close()
				continue
			}
			go func() {
				defer hub.Close()
				_, _ = io.Copy(hub, host)
			}()
			go func() {
				defer host.Close()
				part := make([]byte, 64<<10)
				for {
					n, err := hub.Read(part)
					if err != nil || a.pass(host, part[:n]) != nil {
						return
					}
				}
			}()
		}
	}()
	return a
}

// A hub takes the call and does not answer in time. The caller can't know whether it was done. With a key it can call
// again without harm.
func TestAttachedToASilentHub(t *testing.T) {
	directory := t.TempDir()
	front, behind := filepath.Join(directory, "front.sock"), filepath.Join(directory, "hub.sock")
	hub := hubAt(t, "unix:"+behind)
	answers := answersOf(t, front, behind)
	srv := attachedFor(t, "unix:"+front, "5s")
	before := stats(t, hub).Published
	message := push.Message{Channel: "news", Data: []byte("y"), Key: "once"}
	answers.Lock()
	_, err := srv.PublishMessage(message)
	answers.Unlock()
	if !errors.Is(err, push.ErrTimeout) {
		t.Error(err)
	}
	// On a busy machine it may be late again.
	harness.Wait(t, "an answer", func() bool {
		_, err = srv.PublishContext(deadline(t), message)
		return !errors.Is(err, push.ErrTimeout) && !errors.Is(err, push.ErrBusy)
	})
	if err != nil {
		t.Error(err)
	}
	if s := stats(t, hub); s.Published != before+1 || s.Duplicates < 1 {
		t.Errorf("%+v", s)
	}
}

// A batch without positions gives C no memory for them, even if the memory of an earlier batch with positions is used
// again: C would write as many as there are messages. It shows when there is no hub, since only a batch that wants no
// positions waits for the hub then.
func TestABatchWithoutPositionsWantsNone(t *testing.T) {
	harness.CheckLeaks(t)
	nobody := "unix:" + filepath.Join(t.TempDir(), "attach.sock")
	srv := start(t, push.Config{Options: map[string]string{"attach": nobody, "attach_timeout": "0"}})
	messages := make([]push.Message, 100)
	for i := range messages {
		messages[i] = push.Message{Channel: "c", Data: []byte("x")}
	}
	for range 20 {
		if _, err := srv.PublishBatchPositions(messages[:1]); !errors.Is(err, push.ErrBusy) {
			t.Fatal(err)
		}
		if err := srv.PublishBatch(messages); err != nil {
			t.Fatal(err)
		}
	}
	stopWithin(t, srv, 200*time.Millisecond)
}

// Clients that were handed over while the hub can't be reached are told to come back. Each gets an answer.
func TestClientsOfAHubThatIsAway(t *testing.T) {
	address := "unix:" + filepath.Join(t.TempDir(), "attach.sock")
	hub := hubAt(t, address)
	srv := attachedFor(t, address, "1s")
	if err := hub.Stop(deadline(t)); err != nil {
		t.Fatal(err)
	}
	service := serve(t, srv.Handler(push.Anyone))
	ask := func(accept string) (int, http.Header, string) {
		request, err := http.NewRequest("GET", service.URL+"/push?channel=news", nil)
		if err != nil {
			t.Fatal(err)
		}
		request.Header.Set("Accept", accept)
		response, err := http.DefaultClient.Do(request.WithContext(deadline(t)))
		if err != nil {
			t.Fatal(err)
		}
		defer response.Body.Close()
		body, err := io.ReadAll(response.Body)
		if err != nil {
			t.Fatal(err)
		}
		return response.StatusCode, response.Header, string(body)
	}
	if status, header, _ := ask("application/json"); status != http.StatusServiceUnavailable || header.Get("Retry-After") == "" {
		t.Error(status, header)
	}
	if status, header, body := ask("text/event-stream"); status != http.StatusOK || !strings.Contains(body, "event: push-close") {
		t.Error(status, header, body)
	}
}
