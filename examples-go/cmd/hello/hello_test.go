package main

import (
	"context"
	"fmt"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	coder "github.com/coder/websocket"
	gorilla "github.com/gorilla/websocket"
	"github.com/r3labs/sse/v2"

	"libpush.example/go/internal/harness"
)

// publish publishes as another part of the service would.
func publish(t *testing.T, url, channel, data string) {
	t.Helper()
	response, err := http.Post(url+"/publish?channel="+channel, "text/plain", strings.NewReader(data))
	if err != nil {
		t.Fatal(err)
	}
	response.Body.Close()
	if response.StatusCode != http.StatusOK {
		t.Fatal(response.Status)
	}
}

func socketURL(hello *harness.Program) string {
	return "ws" + strings.TrimPrefix(hello.URL, "http") + "/push?channel=news"
}

func TestGorillaClient(t *testing.T) {
	hello := harness.Run(t, "./cmd/hello")
	client, response, err := gorilla.DefaultDialer.Dial(socketURL(hello), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	position := response.Header.Get("Push-Position")
	_ = client.SetReadDeadline(time.Now().Add(harness.Patience))
	if err := client.WriteMessage(gorilla.TextMessage, []byte("nobody asks for it")); err != nil {
		t.Fatal(err)
	}
	pong := make(chan string, 1)
	client.SetPongHandler(func(data string) error { pong <- data; return nil })
	if err := client.WriteControl(gorilla.PingMessage, []byte("p"), time.Now().Add(harness.Patience)); err != nil {
		t.Fatal(err)
	}
	for i := range 100 {
		publish(t, hello.URL, "news", fmt.Sprint("message ", i))
		kind, got, err := client.ReadMessage()
		if err != nil || kind != gorilla.TextMessage || string(got) != fmt.Sprint("message ", i) {
			t.Fatalf("%d: %d %q %v", i, kind, got, err)
		}
	}
	if got := <-pong; got != "p" {
		t.Errorf("pong %q", got)
	}
	bye := gorilla.FormatCloseMessage(gorilla.CloseNormalClosure, "")
	if err := client.WriteMessage(gorilla.CloseMessage, bye); err != nil {
		t.Fatal(err)
	}
	if _, _, err := client.ReadMessage(); !gorilla.IsCloseError(err, gorilla.CloseNormalClosure) {
		t.Error(err)
	}

	// The client comes back with its position.
	again, _, err := gorilla.DefaultDialer.Dial(socketURL(hello)+"&since="+position, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer again.Close()
	for i := range 100 {
		if _, got, err := again.ReadMessage(); err != nil || string(got) != fmt.Sprint("message ", i) {
			t.Fatalf("%d: %q %v", i, got, err)
		}
	}
}

func TestCoderClient(t *testing.T) {
	hello := harness.Run(t, "./cmd/hello")
	ctx, cancel := context.WithTimeout(t.Context(), harness.Patience)
	defer cancel()
	client, _, err := coder.Dial(ctx, socketURL(hello), &coder.DialOptions{CompressionMode: coder.CompressionContextTakeover})
	if err != nil {
		t.Fatal(err)
	}
	defer client.CloseNow()
	client.SetReadLimit(1 << 20)
	for _, size := range []int{0, 1, 125, 126, 65535, 65536, 500_000} {
		publish(t, hello.URL, "news", strings.Repeat("x", size))
		kind, got, err := client.Read(ctx)
		if err != nil || kind != coder.MessageText || len(got) != size {
			t.Fatalf("%d: %v %d %v", size, kind, len(got), err)
		}
	}
	done := make(chan struct{})
	go func() { // Ping needs a reader
		defer close(done)
		_, _, _ = client.Read(ctx)
	}()
	if err := client.Ping(ctx); err != nil {
		t.Error(err)
	}
	if err := client.Close(coder.StatusNormalClosure, ""); err != nil {
		t.Error(err)
	}
	<-done
}

// r3labs/sse comes back by itself, with the position that it has seen.
func TestR3labsClient(t *testing.T) {
	hello := harness.Run(t, "./cmd/hello")
	network := harness.StartProxy(t, strings.TrimPrefix(hello.URL, "http://"))
	client := sse.NewClient("http://" + network.Address + "/push?channel=news")
	client.Connection = &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	ctx, cancel := context.WithTimeout(t.Context(), harness.Patience)
	defer cancel()
	connected := make(chan bool, 10)
	client.OnConnect(func(*sse.Client) { connected <- true })
	got := make(chan *sse.Event, 100)
	ended := make(chan error, 1)
	go func() {
		ended <- client.SubscribeRawWithContext(ctx, func(event *sse.Event) {
			// The library's own events, such as push-open, come only to clients that ask for them.
			if len(event.Data) > 0 && !strings.HasPrefix(string(event.Event), "push-") {
				got <- event
			}
		})
	}()
	want := func(data string) {
		t.Helper()
		select {
		case event := <-got:
			if string(event.Data) != data || len(event.ID) == 0 {
				t.Fatalf("%q %q, want %q", event.ID, event.Data, data)
			}
		case <-ctx.Done():
			t.Fatalf("no %q", data)
		}
	}
	<-connected
	publish(t, hello.URL, "news", "before")
	want("before")
	network.Cut()
	for i := range 5 {
		publish(t, hello.URL, "news", fmt.Sprint("while it was away ", i))
	}
	network.Mend()
	for i := range 5 {
		want(fmt.Sprint("while it was away ", i))
	}
	publish(t, hello.URL, "news", "two\nlines")
	want("two\nlines")
	cancel()
	<-ended
}

func TestRefusals(t *testing.T) {
	hello := harness.Run(t, "./cmd/hello")
	for _, test := range []struct {
		method, path string
		status       int
	}{
		{"POST", "/publish", 400}, {"GET", "/publish?channel=c", 405}, {"GET", "/push", 400}, {"POST", "/push?channel=c", 405},
		{"GET", "/push?channel=c&last=0", 400}, {"GET", "/elsewhere", 404},
	} {
		request, _ := http.NewRequest(test.method, hello.URL+test.path, nil)
		response, err := http.DefaultClient.Do(request)
		if err != nil {
			t.Fatal(err)
		}
		response.Body.Close()
		if response.StatusCode != test.status {
			t.Errorf("%s %s: %s", test.method, test.path, response.Status)
		}
	}
}

// This makes it an example.
func TestHelloStaysShort(t *testing.T) {
	source, err := os.ReadFile("main.go")
	if err != nil {
		t.Fatal(err)
	}
	_, body, _ := strings.Cut(string(source), "func main() {\n")
	if lines := strings.Count(body, "\n"); lines > 30 {
		t.Errorf("main has %d lines", lines)
	}
}
