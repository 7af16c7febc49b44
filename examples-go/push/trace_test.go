package push_test

import (
	"bytes"
	"context"
	"encoding/hex"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"

	"libpush.example/go/internal/harness"
	"libpush.example/go/push"
)

// collector takes what the library exports. It only knows which ids and positions have come. What they mean to a real
// receiver, TestTraceAtTheReceiverOfTheCollector shows.
type collector struct {
	*httptest.Server
	mu  sync.Mutex
	got []byte
}

func startCollector(t *testing.T) *collector {
	c := new(collector)
	c.Server = httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil || r.URL.Path != "/v1/traces" {
			t.Errorf("%s: %v", r.URL, err)
		}
		c.mu.Lock()
		c.got = append(c.got, body...)
		c.mu.Unlock()
	}))
	t.Cleanup(c.Close)
	return c
}

func (c *collector) options(more map[string]string) map[string]string {
	options := map[string]string{"trace": "otlp:" + c.URL, "trace_sample": "0", "trace_timeout": "10m"}
	for name, value := range more {
		options[name] = value
	}
	return options
}

// has waits until all of that has come.
func (c *collector) has(t *testing.T, wanted ...[]byte) {
	t.Helper()
	for end := time.Now().Add(harness.Patience); ; time.Sleep(5 * time.Millisecond) {
		c.mu.Lock()
		missing := 0
		for _, part := range wanted {
			if !bytes.Contains(c.got, part) {
				missing++
			}
		}
		c.mu.Unlock()
		if missing == 0 {
			return
		}
		if time.Now().After(end) {
			t.Fatalf("%d of %d parts have not come", missing, len(wanted))
		}
	}
}

func id(t *testing.T, text string) []byte {
	t.Helper()
	bytes, err := hex.DecodeString(text)
	if err != nil {
		t.Fatal(err)
	}
	return bytes
}

type spanKey struct{}

// traceOf is what a service has from its package for tracing.
func traceOf(ctx context.Context) string {
	text, _ := ctx.Value(spanKey{}).(string)
	return text
}

func traceparent(trace, parent string) string { return "00-" + trace + "-" + parent + "-01" }

var (
	traces  = []string{strings.Repeat("1a", 16), strings.Repeat("2b", 16), strings.Repeat("3c", 16), strings.Repeat("4d", 16)}
	parents = []string{strings.Repeat("a1", 8), strings.Repeat("b2", 8), strings.Repeat("c3", 8), strings.Repeat("d4", 8)}
)

func TestTraceOfMessagesAndContexts(t *testing.T) {
	c := startCollector(t)
	srv := start(t, push.Config{Options: c.options(nil), Trace: traceOf})
	ctx := context.WithValue(deadline(t), spanKey{}, traceparent(traces[0], parents[0]))
	first, err := srv.PublishContext(ctx, push.Message{Channel: "a", Data: []byte("x")})
	if err != nil {
		t.Fatal(err)
	}
	// What the message says goes before what the context says.
	own := push.Message{Channel: "a", Data: []byte("x"), Event: "e", Key: "k", Trace: traceparent(traces[1], parents[1])}
	second, err := srv.PublishContext(ctx, own)
	if err != nil {
		t.Fatal(err)
	}
	batch := []push.Message{
		{Channel: "b", Data: []byte("one")},
		{Channel: "b", Data: []byte("two"), Trace: traceparent(traces[2], parents[2])},
		{Channel: "c", Data: []byte("three"), Event: "e", Key: "k", Trace: traceparent(traces[3], parents[3])},
		{Channel: "c", Data: []byte("four"), Trace: "not one"},
		{Channel: "c", Data: []byte("five"), Trace: "a\x00b" + strings.Repeat("x", 1000)},
	}
	positions, err := srv.PublishBatchPositions(batch)
	if err != nil {
		t.Fatal(err)
	}
	c.has(t, []byte(first), []byte(second), []byte(positions[1]), []byte(positions[2]))
	for i := range traces {
		c.has(t, id(t, traces[i]), id(t, parents[i]))
	}
	// They would have come with the others.
	for _, position := range []push.Position{positions[0], positions[3], positions[4]} {
		c.mu.Lock()
		if bytes.Contains(c.got, []byte(position)) {
			t.Errorf("%s has no trace, and has a span", position)
		}
		c.mu.Unlock()
	}
}

func TestMessagesKeepTheirContentBesideATrace(t *testing.T) {
	srv := start(t, push.Config{})
	sub := subscribe(t, srv, push.SubscribeOptions{}, "a")
	trace := traceparent(traces[0], parents[0])
	messages := []push.Message{
		{Channel: "a", Data: []byte("one"), Trace: trace},
		{Channel: "a", Data: []byte("two"), Event: "e", Trace: trace},
		{Channel: "a", Data: []byte("three")},
	}
	if err := srv.PublishBatch(messages); err != nil {
		t.Fatal(err)
	}
	for _, m := range messages {
		got := next(t, sub)
		if string(got.Data) != string(m.Data) || got.Event != m.Event {
			t.Errorf("%q %q, not %q %q", got.Event, got.Data, m.Event, m.Data)
		}
	}
}

// received is a span as the OTLP receiver of the OpenTelemetry Collector prints it (tests/harness/otlp/main.go), or the
// line that comes before all spans.
type received struct {
	Listens       bool
	Trace, Parent string
	Attributes    struct {
		Position string `json:"messaging.message.id"`
	}
}

// startReceiver starts that receiver. It ends with the test. Lines that do not come are an error of the decoder.
func startReceiver(t *testing.T) (url string, lines *json.Decoder) {
	t.Helper()
	address := harness.FreeAddress(t)
	command := exec.Command("../../target/otlp/receiver", `{"endpoint": "`+address+`"}`)
	command.Stderr = os.Stderr
	input, err := command.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	output, err := command.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := command.Start(); err != nil {
		t.Fatalf("%v (tests/harness/otlp/install builds it)", err)
	}
	late := time.AfterFunc(harness.Patience, func() { _ = command.Process.Kill() })
	t.Cleanup(func() {
		late.Stop()
		input.Close()
		if err := command.Wait(); err != nil {
			t.Errorf("the receiver: %v", err)
		}
	})
	lines = json.NewDecoder(output)
	var first received
	if err := lines.Decode(&first); err != nil || !first.Listens {
		t.Fatalf("the receiver does not listen: %v", err)
	}
	return "http://" + address, lines
}

func TestTraceAtTheReceiverOfTheCollector(t *testing.T) {
	url, lines := startReceiver(t)
	options := map[string]string{"trace": "otlp:" + url, "trace_sample": "0", "trace_timeout": "10m"}
	srv := start(t, push.Config{Options: options, Trace: traceOf})
	ctx := context.WithValue(deadline(t), spanKey{}, traceparent(traces[0], parents[0]))
	first, err := srv.PublishContext(ctx, push.Message{Channel: "a", Data: []byte("x")})
	if err != nil {
		t.Fatal(err)
	}
	batch := []push.Message{
		{Channel: "b", Data: []byte("x")},
		{Channel: "c", Data: []byte("x"), Trace: traceparent(traces[1], parents[1])},
	}
	positions, err := srv.PublishBatchPositions(batch)
	if err != nil {
		t.Fatal(err)
	}
	for i, position := range []push.Position{first, positions[1]} {
		var span received
		if err := lines.Decode(&span); err != nil {
			t.Fatal(err)
		}
		if span.Trace != traces[i] || span.Parent != parents[i] || span.Attributes.Position != string(position) {
			t.Errorf("%+v is not that of %s %s %s", span, traces[i], parents[i], position)
		}
	}
}
