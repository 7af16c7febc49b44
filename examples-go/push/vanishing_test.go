package push_test

import (
	"bufio"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"libpush.example/go/internal/harness"
	"libpush.example/go/push"
)

// A client behind TLS whose network vanishes without a word is gone soon, as one without TLS is. Over HTTP/2 the
// service's own pings find that out.
func TestClientsBehindTLSAreGoneSoonAfterTheirNetwork(t *testing.T) {
	harness.CheckLeaks(t)
	t.Cleanup(push.SetWriteLimit(10 * time.Second))
	for _, version := range []string{"--http1.1", "--http2"} {
		t.Run(version, func(t *testing.T) {
			elsewhere, address, cut := namespace(t)
			srv := start(t, push.Config{Options: map[string]string{"heartbeat": "1s"}})
			listener, err := net.Listen("tcp", address+":0")
			if err != nil {
				t.Fatal(err)
			}
			service := httptest.NewUnstartedServer(srv.Handler(push.Anyone))
			service.Listener.Close()
			service.Listener = listener
			service.EnableHTTP2 = true
			service.Config.HTTP2 = &http.HTTP2Config{SendPingTimeout: 2 * time.Second, PingTimeout: 10 * time.Second}
			service.StartTLS()
			t.Cleanup(service.Close)

			curl := exec.Command("ip", "netns", "exec", elsewhere, "curl", "-sNk", version, "--max-time", "600",
				"-H", "Accept: text/event-stream", service.URL+"/push?channel=c")
			out, err := curl.StdoutPipe()
			if err != nil {
				t.Fatal(err)
			}
			if err := curl.Start(); err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() {
				_ = curl.Process.Kill()
				_ = curl.Wait()
			})
			wantLine(t, bufio.NewReader(out), "event: push-open")
			if s := stats(t, srv); s.SSE != 1 {
				t.Fatalf("%+v", s)
			}
			cut()
			harness.Wait(t, "it is gone", func() bool { return stats(t, srv).Connections == 0 })
		})
	}
}

// namespace makes a network namespace at the other end of a cable, and returns its name, the address of this end, and a
// function that takes the other end's address away.
func namespace(t *testing.T) (name, ours string, cut func()) {
	t.Helper()
	ip := func(arguments string) bool { return exec.Command("ip", strings.Fields(arguments)...).Run() == nil }
	number := os.Getpid()%10000*10 + len(t.Name())%10
	name = fmt.Sprintf("push-go-%d", number)
	near := fmt.Sprintf("pg%d", number)
	if !ip("netns add " + name) {
		t.Skip("network namespaces need root and iproute2")
	}
	t.Cleanup(func() {
		// Connections that can't end keep the namespace alive for minutes after its name is gone.
		ip("link del " + near)
		ip("netns del " + name)
	})
	// This network is for measurements between machines (RFC 2544), so no machine has it.
	network := fmt.Sprintf("198.19.%d.", number%250)
	for _, step := range []string{
		"link add " + near + " type veth peer name far netns " + name,
		"addr add " + network + "1/30 dev " + near,
		"link set " + near + " up",
		"-n " + name + " addr add " + network + "2/30 dev far",
		"-n " + name + " link set far up",
	} {
		if !ip(step) {
			t.Skip("there can be no pair of virtual cables here: ip " + step)
		}
	}
	return name, network + "1", func() {
		if !ip("-n " + name + " addr flush to " + network + "2/32") {
			t.Fatal("the address stays")
		}
	}
}
