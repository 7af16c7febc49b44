package push_test

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"runtime/pprof"
	"strings"
	"sync"
	"testing"

	"libpush.example/go/internal/harness"
	"libpush.example/go/push"
)

// A child that the service starts while it serves inherits none of our descriptors: it would keep clients and ports
// open.
func TestChildrenInheritNoDescriptors(t *testing.T) {
	harness.CheckLeaks(t)
	inherited := func() int {
		out, err := exec.Command("ls", "/proc/self/fd").Output()
		if err != nil {
			t.Fatal(err)
		}
		return len(strings.Fields(string(out)))
	}
	before := inherited() // with the descriptors that this process has inherited itself
	srv := start(t, push.Config{Listen: []string{"127.0.0.1:0"}})
	_ = srv.Events()
	service := serve(t, srv.Handler(push.Anyone))
	over := make(chan struct{})
	var clients sync.WaitGroup
	clients.Go(func() {
		for {
			select {
			case <-over:
				return
			default:
			}
			conn, _, err := rawStream(service.Listener.Addr().String(), "channel=c")
			if err != nil {
				t.Error(err)
				return
			}
			sub, err := srv.Subscribe(t.Context(), []string{"c"}, push.SubscribeOptions{})
			if err != nil {
				t.Error(err)
				return
			}
			conn.Close()
			sub.Close()
		}
	})
	for range 50 {
		if count := inherited(); count != before {
			t.Errorf("a child has %d descriptors, without us %d", count, before)
		}
	}
	close(over)
	clients.Wait()
}

// Two servers at a time are started and stopped again and again. They leave no thread, no descriptor and no goroutine.
func TestStartedAHundredTimes(t *testing.T) {
	harness.CheckLeaks(t)
	threads := func() int {
		entries, err := os.ReadDir("/proc/self/task")
		if err != nil {
			t.Fatal(err)
		}
		ours := 0
		for _, entry := range entries {
			name, _ := os.ReadFile("/proc/self/task/" + entry.Name() + "/comm")
			if bytes.HasPrefix(name, []byte("push-")) {
				ours++
			}
		}
		return ours
	}
	before := threads()
	for i := range 100 {
		one, err := push.Start(push.Config{Logger: quiet})
		if err != nil {
			t.Fatal(err)
		}
		two, err := push.Start(push.Config{Listen: []string{"127.0.0.1:0"}, Logger: quiet})
		if err != nil {
			t.Fatal(err)
		}
		if threads() == before {
			t.Fatal("no thread of the library's is found")
		}
		events := two.Events()
		sub, err := one.Subscribe(t.Context(), []string{"c"}, push.SubscribeOptions{})
		if err != nil {
			t.Fatal(err)
		}
		publish(t, two, "c", "not for the other")
		publish(t, one, "c", fmt.Sprint(i))
		if d, ok := sub.Next(); !ok || string(d.Data) != fmt.Sprint(i) {
			t.Fatal(d, ok, sub.Err())
		}
		sub.Close()
		for _, srv := range []*push.Server{one, two} {
			if err := srv.Stop(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
		for range events {
		}
	}
	// A thread that has been joined may stand in the list for a moment.
	harness.Wait(t, "the library's threads are gone", func() bool { return threads() == before })
}

// The profiler's signals hit the library's threads too.
func TestProfiledUnderLoad(t *testing.T) {
	srv := startClean(t, push.Config{Options: map[string]string{"outbox": "64MB"}})
	service := serve(t, srv.Handler(push.Anyone))
	wait, err := reader(service.Listener.Addr().String(), "c")
	if err != nil {
		t.Fatal(err)
	}
	var profile bytes.Buffer
	if err := pprof.StartCPUProfile(&profile); err != nil {
		t.Fatal(err)
	}
	const count = 100_000
	for i := range count {
		if _, err := srv.PublishContext(t.Context(), push.Message{Channel: "c", Data: fmt.Append(nil, i, " x")}); err != nil {
			t.Fatal(err)
		}
	}
	if err := patiently(func() error { return srv.Publish("c", []byte("end")) }); err != nil {
		t.Fatal(err)
	}
	got, err := wait()
	pprof.StopCPUProfile()
	if got != count || err != nil {
		t.Errorf("%d of %d, %v", got, count, err)
	}
	if profile.Len() == 0 {
		t.Error("no profile")
	}
}
