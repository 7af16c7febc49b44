package push_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/coder/websocket"

	"libpush.example/go/internal/harness"
	"libpush.example/go/push"
)

func TestEverythingAfterStopIsClosed(t *testing.T) {
	srv := beginClean(t, push.Config{Listen: []string{"127.0.0.1:0"}})
	if all := srv.Addresses(); len(all) != 1 || !strings.HasPrefix(all[0], "127.0.0.1:") {
		t.Fatal(all)
	}
	var stops sync.WaitGroup
	for range 4 { // the second waits for the first
		stops.Go(func() {
			if err := srv.Stop(t.Context()); err != nil {
				t.Error(err)
			}
		})
	}
	stops.Wait()
	_, fromStats := srv.Stats()
	for what, err := range map[string]error{
		"Publish":        srv.Publish("c", nil),
		"PublishMessage": second(srv.PublishMessage(push.Message{Channel: "c"})),
		"PublishBatch":   srv.PublishBatch([]push.Message{{Channel: "c"}}),
		"Broadcast":      second(srv.Broadcast(push.Message{})),
		"PublishContext": second(srv.PublishContext(t.Context(), push.Message{Channel: "c"})),
		"Send":           srv.Send(1, nil),
		"Close":          srv.Close(1, 1000, ""),
		"Disconnect":     srv.Disconnect("u", 1000, ""),
		"RevokeChannel":  srv.RevokeChannel("u", "c", ""),
		"Renew":          srv.Renew(1, push.Grant{Channels: []string{"c"}}),
		"Reload":         srv.Reload(push.Config{}),
		"Drain":          srv.Drain(time.Second),
		"Stats":          fromStats,
	} {
		if !errors.Is(err, push.ErrClosed) {
			t.Errorf("%s: %v", what, err)
		}
	}
	if all := srv.Addresses(); all != nil {
		t.Error(all)
	}
	if err := srv.Stop(t.Context()); err != nil {
		t.Error(err)
	}
}

// A client that does not read is cut off at the deadline. A Stop returns early if its context ends early.
func TestStopKeepsItsTime(t *testing.T) {
	harness.CheckLeaks(t)
	defer push.SetDefaultDrain(2 * harness.Patience)()
	for _, test := range []struct {
		name string
		stop func(*push.Server) error
		want error
	}{
		{"deadline", func(srv *push.Server) error { return srv.Stop(limited(t, 400*time.Millisecond)) }, nil},
		{"cancelled", func(srv *push.Server) error {
			ctx, cancel := context.WithCancel(limited(t, 2*harness.Patience))
			time.AfterFunc(100*time.Millisecond, cancel)
			return srv.Stop(ctx)
		}, context.Canceled},
	} {
		// Without the option a client that does not read would end sooner.
		srv, err := push.Start(push.Config{Options: map[string]string{"close_timeout": "10m"}})
		if err != nil {
			t.Fatal(err)
		}
		service := serve(t, srv.Handler(push.Anyone))
		conn, _, err := rawStream(service.Listener.Addr().String(), "channel=c")
		if err != nil {
			t.Fatal(err)
		}
		for range 10 {
			publish(t, srv, "c", strings.Repeat("x", 1<<20))
		}
		started := time.Now()
		// On a busy machine the call may return before the server has stopped.
		if err := test.stop(srv); !errors.Is(err, test.want) && !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("%s: %v", test.name, err)
		}
		// This is less than a Stop without a deadline takes, even on a busy machine.
		if took := time.Since(started); took > harness.Patience {
			t.Errorf("%s: %s", test.name, took)
		}
		conn.Close()
		if err := srv.Stop(t.Context()); err != nil {
			t.Errorf("%s: %v", test.name, err)
		}
	}
}

func TestStopWhilePublishing(t *testing.T) {
	harness.CheckLeaks(t)
	// This has room for all lines that the reader has not read, and gives it the time to read them.
	srv, err := push.Start(push.Config{Options: map[string]string{"history_count": "0", "outbox": "1GB", "close_timeout": "10m"}})
	if err != nil {
		t.Fatal(err)
	}
	service := serve(t, srv.Handler(push.Anyone))
	const publishers = 8
	_, lines, err := rawStream(service.Listener.Addr().String(), "channel=c&channel=end")
	if err != nil {
		t.Fatal(err)
	}
	var accepted, read [publishers]atomic.Int64
	var all sync.WaitGroup
	for p := range publishers {
		all.Go(func() {
			for i := 0; ; i++ {
				// One that is far ahead of the reader waits for it.
				for tries := 0; tries < 100 && int64(i) > read[p].Load()+10_000; tries++ {
					time.Sleep(time.Millisecond)
				}
				_, err := srv.PublishContext(t.Context(), push.Message{Channel: "c", Data: fmt.Append(nil, p, " ", i)})
				if errors.Is(err, push.ErrClosed) {
					return
				}
				if err != nil {
					t.Error(err)
					return
				}
				accepted[p].Store(int64(i + 1))
			}
		})
	}
	got := make(chan [publishers]int64, 1)
	go func() {
		var next [publishers]int64
		defer func() { got <- next }()
		for {
			line, err := lines.ReadString('\n')
			if err != nil {
				return
			}
			_, data, ok := strings.Cut(line, `"data":"`)
			if !ok {
				continue
			}
			var p, i int64
			if _, err := fmt.Sscanf(data, "%d %d", &p, &i); err != nil || i != next[p] {
				t.Errorf("%q: want %d", data, next[p])
				return
			}
			next[p] = i + 1
			read[p].Store(i + 1)
		}
	}()
	time.Sleep(200 * time.Millisecond)
	stopWithin(t, srv, harness.Patience)
	all.Wait()
	received := <-got
	for p := range publishers {
		if received[p] != accepted[p].Load() {
			t.Errorf("publisher %d: %d came of %d", p, received[p], accepted[p].Load())
		}
	}
}

func TestForgottenServersAreStopped(t *testing.T) {
	harness.CheckLeaks(t)
	var log lockedBuffer
	for range 5 {
		srv, err := push.Start(push.Config{Logger: slog.New(slog.NewTextHandler(&log, nil))})
		if err != nil {
			t.Fatal(err)
		}
		publish(t, srv, "c", "x")
	}
	harness.Wait(t, "they are stopped", func() bool {
		runtime.GC()
		return strings.Count(log.String(), "a server was forgotten") == 5
	})
	// A server that works stays although nothing refers to it.
	address := func() string {
		srv, err := push.Start(push.Config{Listen: []string{"127.0.0.1:0"}})
		if err != nil {
			t.Fatal(err)
		}
		stopLater(t, srv.Addresses()[0])
		return srv.Addresses()[0]
	}()
	for range 5 {
		runtime.GC()
		time.Sleep(5 * time.Millisecond)
	}
	conn, _, err := rawStream(address, "channel=c")
	if err != nil {
		t.Fatal(err)
	}
	conn.Close()
}

// stopLater stops a server to which only its goroutines refer.
func stopLater(t *testing.T, address string) {
	t.Cleanup(func() {
		for _, srv := range push.Kept() {
			if all := srv.Addresses(); len(all) > 0 && all[0] == address {
				_ = srv.Stop(t.Context())
			}
		}
	})
}

// lockedBuffer has what several goroutines log.
type lockedBuffer struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (b *lockedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.Write(p)
}

func (b *lockedBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.String()
}

func TestLogsGoToSlog(t *testing.T) {
	harness.CheckLeaks(t)
	for level, want := range map[slog.Level][]string{
		slog.LevelDebug:     {"level=INFO msg=\"listening on 127.0.0.1:", "level=INFO msg=stopped source=libpush", "level=INFO msg=\"refused with 400 "},
		slog.LevelInfo:      {"level=INFO msg=\"listening on 127.0.0.1:", "level=INFO msg=stopped source=libpush"},
		slog.LevelError + 1: nil,
	} {
		var log lockedBuffer
		logger := slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: level}))
		srv, err := push.Start(push.Config{Listen: []string{"127.0.0.1:0"}, Logger: logger})
		if err != nil {
			t.Fatal(err)
		}
		service := serve(t, srv.Handler(push.Anyone))
		response, _ := get(t, service.Client(), service.URL+"/push", nil)
		_, _ = io.Copy(io.Discard, response.Body)
		if err := srv.Stop(t.Context()); err != nil {
			t.Fatal(err)
		}
		for _, text := range want {
			if !strings.Contains(log.String(), text) {
				t.Errorf("%s: no %q in\n%s", level, text, log.String())
			}
		}
		if want == nil && log.String() != "" || level == slog.LevelInfo && strings.Contains(log.String(), "DEBUG") {
			t.Errorf("%s: too much:\n%s", level, log.String())
		}
	}
}

// This stops in the order that the documentation of Stop gives, with clients of every kind.
func TestStopThenShutdown(t *testing.T) {
	srv := beginClean(t, push.Config{})
	service, _ := secure(t, srv.Handler(push.Anyone))
	socket := dial(t, service.URL+"/push?channel=c", &websocket.DialOptions{HTTPClient: oldClient(service)})
	_, stream := get(t, service.Client(), service.URL+"/push?channel=c", http.Header{"Accept": {"text/event-stream"}})
	go func() { _, _, _ = socket.Read(deadline(t)) }()
	go func() { _, _ = io.Copy(io.Discard, stream) }()
	stopWithin(t, srv, 5*time.Second)
	if err := service.Config.Shutdown(deadline(t)); err != nil {
		t.Error(err)
	}
}
