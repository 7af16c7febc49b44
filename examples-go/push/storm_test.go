package push_test

import (
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"runtime"
	"runtime/debug"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"libpush.example/go/internal/harness"
	"libpush.example/go/push"
)

// reader reads a stream, and counts the messages that came in order, 0, 1, 2…, before one that says "end".
func reader(address, channel string) (wait func() (int, error), err error) {
	conn, lines, err := rawStream(address, "channel="+channel)
	if err != nil {
		return nil, err
	}
	type result struct {
		count int
		err   error
	}
	done := make(chan result, 1)
	go func() {
		defer conn.Close()
		for count := 0; ; {
			line, err := lines.ReadString('\n')
			_, data, isMessage := strings.Cut(line, `"data":"`)
			switch {
			case err != nil:
				done <- result{count, fmt.Errorf("%w after %q", err, line)}
				return
			case !isMessage || !strings.Contains(line, `"channel":`):
				continue // a heartbeat, or a message for this client alone
			case strings.HasPrefix(data, "end"):
				done <- result{count, nil}
				return
			case !strings.HasPrefix(data, fmt.Sprint(count, " ")):
				done <- result{count, fmt.Errorf("after %d came %q", count, line)}
				return
			}
			count++
		}
	}()
	return func() (int, error) { r := <-done; return r.count, r.err }, nil
}

func TestFiveThousandClientsDieAtOnce(t *testing.T) {
	srv := startClean(t, push.Config{Options: map[string]string{"outbox": "64MB"}})
	events := srv.Events()
	var connected, disconnected atomic.Int64
	told := make(chan struct{})
	go func() {
		defer close(told)
		for e := range events {
			switch e.Kind {
			case push.Connected:
				connected.Add(1)
			case push.Disconnected:
				disconnected.Add(1)
			}
		}
	}()
	service := serve(t, srv.Handler(push.Anyone))
	address := service.Listener.Addr().String()
	const victims, stayers = 5000, 50
	goroutines := runtime.NumGoroutine()

	waits := make([]func() (int, error), stayers)
	for i := range waits {
		wait, err := reader(address, "c")
		if err != nil {
			t.Fatal(err)
		}
		waits[i] = wait
	}
	conns := connect(t, address, victims)
	harness.Wait(t, "all are here", func() bool { return stats(t, srv).Subscriptions == victims+stayers })
	harness.Wait(t, "no goroutine stays for them", func() bool { return runtime.NumGoroutine() <= goroutines+stayers+2 })

	// The clients die while messages are on their way to them.
	killed := make(chan struct{})
	go func() {
		defer close(killed)
		for _, conn := range conns {
			_ = conn.(*net.TCPConn).SetLinger(0)
			conn.Close()
		}
	}()
	sent := 0
	for over := false; !over; sent++ {
		select {
		case <-killed:
			over = sent >= 100
		default:
		}
		if _, err := srv.PublishContext(t.Context(), push.Message{Channel: "c", Data: fmt.Append(nil, sent, " x")}); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Millisecond)
	}
	if err := patiently(func() error { return srv.Publish("c", []byte("end")) }); err != nil {
		t.Fatal(err)
	}
	for _, wait := range waits {
		if count, err := wait(); err != nil || count != sent {
			t.Errorf("one that stayed got %d of %d: %v", count, sent, err)
		}
	}
	harness.Wait(t, "all have gone, and the service was told", func() bool {
		return stats(t, srv).Connections == 0 && disconnected.Load() >= victims+stayers
	})
	if err := srv.Stop(t.Context()); err != nil {
		t.Fatal(err)
	}
	<-told
	if came, went := connected.Load(), disconnected.Load(); came != victims+stayers || went != victims+stayers {
		t.Errorf("%d connected and %d disconnected", came, went)
	}
}

// connect opens many clients. They read only the beginning.
func connect(t *testing.T, address string, count int) []net.Conn {
	t.Helper()
	conns := make([]net.Conn, count)
	failed := make(chan error, count)
	var all sync.WaitGroup
	const workers = 16
	for w := range workers {
		all.Go(func() {
			for i := w; i < count; i += workers {
				conn, _, err := rawStream(address, "channel=c")
				if err != nil {
					failed <- err
					return
				}
				conns[i] = conn
			}
		})
	}
	all.Wait()
	select {
	case err := <-failed:
		t.Fatal(err)
	default:
	}
	return conns
}

func TestPanicsAndSlowLogins(t *testing.T) {
	srv := startClean(t, push.Config{})
	inside, decided := make(chan struct{}, 100), make(chan struct{})
	decide := sync.OnceFunc(func() { close(decided) })
	handler := srv.Handler(func(r *http.Request) (push.Grant, error) {
		switch r.URL.Query().Get("as") {
		case "panic":
			panic("in authorize")
		case "slow":
			inside <- struct{}{}
			<-decided
		}
		return push.Anyone(r)
	})
	service := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		handler.ServeHTTP(w, r)
		if r.URL.Query().Get("as") == "panic-after" {
			panic("in the middleware, after the connection was handed over")
		}
	}))
	service.Config.ErrorLog = log.New(io.Discard, "", 0)
	service.Start()
	defer service.Close()
	defer decide() // Close waits for the logins
	address := service.Listener.Addr().String()

	for range 20 {
		if _, _, err := rawStream(address, "channel=c&as=panic"); err == nil {
			t.Error("a login that panics let a client in")
		}
	}
	after, lines, err := rawStream(address, "channel=c&as=panic-after")
	if err != nil {
		t.Fatal(err)
	}
	defer after.Close()

	// Twenty logins are slow, and the others don't wait for them.
	slow := make(chan error, 20)
	for range 20 {
		go func() {
			conn, _, err := rawStream(address, "channel=c&as=slow")
			if err == nil {
				conn.Close()
			}
			slow <- err
		}()
	}
	for range 20 {
		<-inside
	}
	wait, err := reader(address, "c")
	if err != nil {
		t.Fatal(err)
	}
	publish(t, srv, "c", "0 x")
	publish(t, srv, "c", "end")
	if count, err := wait(); count != 1 || err != nil {
		t.Error(count, err)
	}
	wantLine(t, lines, "0 x")
	// One of the clients that are let in has gone before.
	gone, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	fmt.Fprint(gone, "GET /push?channel=c&as=slow HTTP/1.1\r\nHost: h\r\n\r\n")
	<-inside
	gone.Close()
	decide()
	for range 20 {
		if err := <-slow; err != nil {
			t.Error(err)
		}
	}
	harness.Wait(t, "only one is left", func() bool { return stats(t, srv).Connections == 1 })
}

// patiently makes a call until the library is not busy any more. A call that got ErrBusy has done nothing.
func patiently(call func() error) error {
	for until := time.Now().Add(harness.Patience); ; time.Sleep(time.Millisecond) {
		if err := call(); !errors.Is(err, push.ErrBusy) || time.Now().After(until) {
			return err
		}
	}
}

// All calls run at once while the garbage collector runs all the time. Memory that C gets stays in its place, and
// nothing is lost.
func TestGarbageCollectorStorm(t *testing.T) {
	harness.CheckLeaks(t)
	defer debug.SetGCPercent(debug.SetGCPercent(1))
	srv := start(t, push.Config{Options: map[string]string{"outbox": "64MB", "history_count": "5", "event_queue": "1048576"}})
	events := srv.Events()
	service := serve(t, srv.Handler(func(r *http.Request) (push.Grant, error) {
		return push.Grant{User: "user " + r.URL.Query().Get("channel"), Channels: []string{strings.Repeat("x", 100)}, Patterns: []string{"c*"}}, nil
	}))
	address := service.Listener.Addr().String()
	over := make(chan struct{})
	var storm sync.WaitGroup
	always := func(work func(i int)) {
		storm.Go(func() {
			for i := 0; ; i++ {
				select {
				case <-over:
					return
				default:
					work(i)
				}
			}
		})
	}
	always(func(int) { runtime.GC() })
	always(func(i int) { // clients that come and go
		conn, _, err := rawStream(address, "channel=c0")
		if err != nil {
			t.Error(err)
			return
		}
		conn.Close()
	})
	always(func(i int) { // and subscriptions of our own
		sub, err := srv.Subscribe(t.Context(), []string{"c1"}, push.SubscribeOptions{Last: 1 + i%5})
		if err != nil {
			t.Error(err)
			return
		}
		sub.Next()
		sub.Close()
	})
	always(func(int) {
		e, ok := <-events
		if !ok {
			return
		}
		if !strings.HasPrefix(e.User, "user c") {
			t.Errorf("%+v", e)
		}
		if err := patiently(func() error { return srv.Send(e.Conn, []byte("hello")) }); err != nil && !errors.Is(err, push.ErrNotFound) {
			t.Error(err)
		}
	})

	const publishers, each = 4, 15000
	waits := make([]func() (int, error), publishers)
	for p := range waits {
		wait, err := reader(address, fmt.Sprint("c", p))
		if err != nil {
			t.Fatal(err)
		}
		waits[p] = wait
	}
	var all sync.WaitGroup
	for p := range publishers {
		all.Go(func() {
			channel := fmt.Sprint("c", p)
			payload := func(i int) []byte { return fmt.Append(nil, i, " ", strings.Repeat("y", i%700)) }
			for i := 0; i < each; {
				var err error
				switch i % 3 {
				case 0:
					err = patiently(func() error { return srv.Publish(channel, payload(i)) })
					i++
				case 1:
					message := push.Message{Channel: channel, Data: payload(i), Event: fmt.Sprint("e", i), Key: fmt.Sprint(i)}
					err = patiently(func() error { return second(srv.PublishMessage(message)) })
					i++
				default:
					batch := make([]push.Message, 1+i%150)
					for j := range batch {
						batch[j] = push.Message{Channel: channel, Data: payload(i + j), Event: fmt.Sprint("e", i)}
					}
					err = patiently(func() error { _, err := srv.PublishBatchPositions(batch); return err })
					i += len(batch)
				}
				if err != nil {
					t.Error(err)
					return
				}
			}
			if err := patiently(func() error { return srv.Publish(channel, []byte("end")) }); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	for p, wait := range waits {
		if count, err := wait(); err != nil || count < each {
			t.Errorf("channel %d: %d messages, %v", p, count, err)
		}
	}
	close(over)
	// A goroutine that waits for an event or a message gets one.
	if err := patiently(func() error { return srv.Publish("c1", []byte("the end")) }); err != nil {
		t.Error(err)
	}
	conn, _, err := rawStream(address, "channel=c0")
	if err != nil {
		t.Fatal(err)
	}
	conn.Close()
	storm.Wait()
}
