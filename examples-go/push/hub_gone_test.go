package push_test

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"libpush.example/go/internal/harness"
	"libpush.example/go/push"
)

// The hub is away for longer than clients wait for it. A subscription goes on where it was with the next hub. One that
// is closed meanwhile ends.
func TestSubscriptionsOutliveTheHub(t *testing.T) {
	harness.CheckLeaks(t)
	directory := t.TempDir()
	address := "unix:" + filepath.Join(directory, "attach.sock")
	engine := "file:" + filepath.Join(directory, "log")
	config := push.Config{Options: map[string]string{"attach_listen": address, "engine": engine}}
	hub := start(t, config)
	srv := attachedFor(t, address, "100ms")
	// A busy hub may be late, too.
	subscribe := func(channel string) (sub *push.Subscription) {
		var err error
		harness.Wait(t, "a subscription to "+channel, func() bool {
			sub, err = srv.Subscribe(t.Context(), []string{channel}, push.SubscribeOptions{})
			return !errors.Is(err, push.ErrBusy)
		})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { sub.Close() })
		return sub
	}
	sub, closed := subscribe("c"), subscribe("other")
	publish(t, hub, "c", "before")
	if d := next(t, sub); string(d.Data) != "before" {
		t.Fatalf("%+v", d)
	}
	type answer struct {
		push.Delivery
		ok bool
	}
	wait := func(of *push.Subscription) <-chan answer {
		came := make(chan answer, 1)
		go func() {
			d, ok := of.Next()
			came <- answer{d, ok}
		}()
		return came
	}
	got, ended := wait(sub), wait(closed)
	stopWithin(t, hub, 5*time.Second)
	harness.Wait(t, "clients are refused", func() bool {
		_, err := srv.PublishMessage(push.Message{Channel: "nobody", Data: []byte("x")})
		return errors.Is(err, push.ErrBusy)
	})
	closed.Close()
	if a := <-ended; a.ok || closed.Err() != nil {
		t.Errorf("closed: %+v, %v", a, closed.Err())
	}
	hub = start(t, config)
	publish(t, hub, "c", "after")
	if a := <-got; !a.ok || a.Gap || string(a.Data) != "after" {
		t.Errorf("%+v, %v", a, sub.Err())
	}
}

// A hub that has no room is not a server that was stopped.
func TestSubscribeAtAFullHub(t *testing.T) {
	harness.CheckLeaks(t)
	address := "unix:" + filepath.Join(t.TempDir(), "attach.sock")
	start(t, push.Config{Options: map[string]string{"attach_listen": address, "max_connections": "1"}})
	srv := attached(t, address)
	subscribe(t, srv, push.SubscribeOptions{}, "c")
	if _, err := srv.Subscribe(t.Context(), []string{"c"}, push.SubscribeOptions{}); !errors.Is(err, push.ErrLimit) {
		t.Error(err)
	}
}

// A server that stops ends its subscriptions although the hub goes on.
func TestSubscriptionsEndWithTheirAttachedServer(t *testing.T) {
	harness.CheckLeaks(t)
	address := "unix:" + filepath.Join(t.TempDir(), "attach.sock")
	hub := hubAt(t, address)
	srv := attached(t, address)
	sub := subscribe(t, srv, push.SubscribeOptions{}, "c")
	ended := make(chan bool, 1)
	go func() {
		_, ok := sub.Next()
		ended <- ok
	}()
	stopWithin(t, srv, time.Second)
	select {
	case ok := <-ended:
		if ok || !errors.Is(sub.Err(), push.ErrClosed) {
			t.Error(ok, sub.Err())
		}
	case <-time.After(harness.Patience):
		t.Error("Next still waits")
	}
	harness.Wait(t, "the hub has no stream", func() bool { return stats(t, hub).Streams == 0 })
}

// Messages that came before the end can be read after it.
func TestTheLastMessagesOutliveStop(t *testing.T) {
	srv := startClean(t, push.Config{})
	sub := subscribe(t, srv, push.SubscribeOptions{}, "c")
	for _, text := range []string{"1", "2", "3"} {
		publish(t, srv, "c", text)
	}
	stopWithin(t, srv, 5*time.Second)
	for _, want := range []string{"1", "2", "3"} {
		if d := next(t, sub); string(d.Data) != want {
			t.Errorf("%+v, want %s", d, want)
		}
	}
	if d, ok := sub.Next(); ok || !errors.Is(sub.Err(), push.ErrClosed) {
		t.Errorf("%+v, %v", d, sub.Err())
	}
}

// hangingHub is a socket in front of a hub, for one host. From the first client on nothing passes, and all clients are
// kept to the end of the test, as by a hub that hangs. It counts them. Before that the hub may end a host that is slow to
// introduce itself, and the host comes again.
func hangingHub(t *testing.T, path, behind string) *atomic.Int64 {
	listener, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	taken, kept, served := new(atomic.Int64), []int(nil), make(chan struct{})
	serve := func(host net.Conn) {
		defer host.Close()
		hub, err := net.Dial("unix", behind)
		if err != nil {
			return
		}
		defer hub.Close()
		go func() {
			_, _ = io.Copy(host, hub)
			if taken.Load() == 0 {
				host.Close()
			}
		}()
		part, rights := make([]byte, 64<<10), make([]byte, 4096)
		for {
			n, m, _, _, err := host.(*net.UnixConn).ReadMsgUnix(part, rights)
			if err != nil || n == 0 {
				return
			}
			all, _ := syscall.ParseSocketControlMessage(rights[:m])
			for i := range all {
				clients, _ := syscall.ParseUnixRights(&all[i])
				kept = append(kept, clients...)
			}
			taken.Store(int64(len(kept)))
			if len(kept) == 0 {
				_, _ = hub.Write(part[:n])
			}
		}
	}
	go func() {
		defer close(served)
		for len(kept) == 0 {
			host, err := listener.Accept()
			if err != nil {
				return
			}
			serve(host)
		}
	}()
	t.Cleanup(func() {
		listener.Close()
		<-served
		for _, client := range kept {
			_ = syscall.Close(client)
		}
	})
	return taken
}

// A server ends in its time although its hub hangs, with a poll over HTTP/2 and a subscription that wait for an answer.
func TestStopWhileTheHubHangs(t *testing.T) {
	harness.CheckLeaks(t)
	directory := t.TempDir()
	front, behind := filepath.Join(directory, "front.sock"), filepath.Join(directory, "hub.sock")
	hubAt(t, "unix:"+behind)
	taken := hangingHub(t, front, behind)
	srv := start(t, push.Config{Options: map[string]string{"attach": "unix:" + front, "attach_timeout": "10s"}})
	service, _ := secure(t, srv.Handler(push.Anyone))
	subscribed := make(chan error, 1)
	go func() {
		_, err := srv.Subscribe(context.Background(), []string{"c"}, push.SubscribeOptions{})
		subscribed <- err
	}()
	harness.Wait(t, "the subscription is there", func() bool { return taken.Load() == 1 })
	status := make(chan int, 1)
	request, err := http.NewRequestWithContext(deadline(t), http.MethodGet, service.URL+"/push?channel=c&transport=poll", nil)
	if err != nil {
		t.Fatal(err)
	}
	go func() {
		response, err := service.Client().Do(request)
		if err != nil {
			status <- 0
			return
		}
		response.Body.Close()
		status <- response.StatusCode
	}()
	harness.Wait(t, "the poll is there", func() bool { return taken.Load() == 2 })
	stopped := make(chan error, 1)
	go func() { stopped <- srv.Stop(limited(t, time.Second)) }()
	if s := <-status; s != http.StatusServiceUnavailable {
		t.Errorf("the poll got %d", s)
	}
	if err := <-stopped; err != nil && !errors.Is(err, context.DeadlineExceeded) {
		t.Error(err)
	}
	select {
	case err := <-subscribed:
		if !errors.Is(err, push.ErrClosed) {
			t.Error(err)
		}
	case <-time.After(harness.Patience):
		t.Error("Subscribe still waits")
	}
}

// Calls that wait hold threads. There is a limit, and the calls beyond it have done nothing.
func TestCallsThatWaitAreLimited(t *testing.T) {
	directory := t.TempDir()
	front, behind := filepath.Join(directory, "front.sock"), filepath.Join(directory, "hub.sock")
	hub := hubAt(t, "unix:"+behind)
	answers := answersOf(t, front, behind)
	srv := start(t, push.Config{Options: map[string]string{"attach": "unix:" + front, "attach_timeout": "1m"}})
	if _, err := srv.PublishContext(deadline(t), push.Message{Channel: "c", Data: []byte("x")}); err != nil {
		t.Fatal(err)
	}
	// The hub is another process, so its own calls should not count here.
	published := func() uint64 {
		restore := push.SetWaitingAtOnce(1000)
		defer restore()
		return stats(t, hub).Published
	}
	t.Cleanup(push.SetWaitingAtOnce(4))
	message := push.Message{Channel: "c", Data: []byte("y")}
	waited := make(chan error, 4)
	answers.Lock()
	for range 4 {
		go func() { waited <- second(srv.PublishMessage(message)) }()
	}
	harness.Wait(t, "four are done, and wait", func() bool { return published() == 5 })
	_, ofBatch := srv.PublishBatchPositions([]push.Message{message})
	_, ofStats := srv.Stats()
	_, ofUsers := srv.Users("c", "", 1)
	for what, err := range map[string]error{
		"PublishMessage": second(srv.PublishMessage(message)), "Broadcast": second(srv.Broadcast(message)),
		"PublishBatchPositions": ofBatch, "Stats": ofStats, "Users": ofUsers,
	} {
		if !errors.Is(err, push.ErrBusy) {
			t.Errorf("%s: %v", what, err)
		}
	}
	if err := srv.PublishBatch([]push.Message{message}); err != nil { // never waits
		t.Error(err)
	}
	publish(t, srv, "c", "never waits")
	answers.Unlock()
	for range 4 {
		if err := <-waited; err != nil {
			t.Error(err)
		}
	}
	if _, err := srv.PublishMessage(message); err != nil {
		t.Error(err)
	}
	if count := published(); count != 8 {
		t.Errorf("%d were published", count)
	}
}

// A middleware ends the request's context while the client is still there. The client is told to come back.
func TestAPollWhoseContextEnds(t *testing.T) {
	srv := startClean(t, push.Config{})
	subscribers := srv.Handler(push.Anyone)
	service, _ := secure(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		ctx, cancel := context.WithCancel(r.Context())
		defer cancel()
		go func() {
			defer cancel()
			// Before it waits, another path would answer it.
			for s, err := srv.Stats(); err == nil && s.Polls == 0 && ctx.Err() == nil; s, err = srv.Stats() {
				time.Sleep(5 * time.Millisecond)
			}
		}()
		subscribers.ServeHTTP(w, r.WithContext(ctx))
	}))
	response, _ := get(t, service.Client(), service.URL+"/push?channel=c&transport=poll", nil)
	if response.StatusCode != http.StatusServiceUnavailable || response.Header.Get("Retry-After") == "" {
		t.Error(response.Status, response.Header)
	}
}

// A poll behind a middleware that hides the connection is answered at once, though its grant would keep the connection
// open, and the client asks for that as browsers do.
func TestARelayedPollEndsWithItsAnswer(t *testing.T) {
	srv := startClean(t, push.Config{})
	subscribers := srv.Handler(func(*http.Request) (push.Grant, error) {
		return push.Grant{Channels: []string{"c"}, KeepAlive: true}, nil
	})
	service := serve(t, http.TimeoutHandler(subscribers, harness.Patience, "too late"))
	publish(t, srv, "c", "already there")
	response, body := get(t, service.Client(), service.URL+"/push?channel=c&last=1&transport=poll",
		http.Header{"Connection": {"keep-alive"}})
	if text, _ := io.ReadAll(body); response.StatusCode != 200 || !strings.Contains(string(text), "already there") {
		t.Errorf("%s %s", response.Status, text)
	}
}
