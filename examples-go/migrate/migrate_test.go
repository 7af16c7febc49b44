// Package migrate has the programs of MIGRATING.md. Each pair, before and after, is run against the clients of the
// original.
package migrate

import (
	"encoding/base64"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/gorilla/websocket"
	"github.com/r3labs/sse/v2"

	"libpush.example/go/internal/harness"
)

// both runs a test against the old program and the new one.
func both(t *testing.T, of string, test func(t *testing.T, program *harness.Program)) {
	for _, which := range []string{"before", "after"} {
		t.Run(which, func(t *testing.T) { test(t, harness.Run(t, "./migrate/"+of+"/"+which)) })
	}
}

func dial(t *testing.T, program *harness.Program, path string) *websocket.Conn {
	t.Helper()
	conn, _, err := websocket.DefaultDialer.Dial("ws"+strings.TrimPrefix(program.URL, "http")+path, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	_ = conn.SetReadDeadline(time.Now().Add(harness.Patience))
	return conn
}

// This does the same as the client of gorilla's example "echo": it sends the time repeatedly, and a close frame at the
// end.
func TestGorilla(t *testing.T) {
	both(t, "gorilla", func(t *testing.T, program *harness.Program) {
		conn := dial(t, program, "/echo")
		for _, sent := range []struct {
			kind int
			data string
		}{
			{websocket.TextMessage, time.Now().String()}, {websocket.BinaryMessage, "\xff\x00\xfe"}, {websocket.TextMessage, ""},
			{websocket.TextMessage, strings.Repeat("long ", 5000)},
		} {
			if err := conn.WriteMessage(sent.kind, []byte(sent.data)); err != nil {
				t.Fatal(err)
			}
			if kind, data, err := conn.ReadMessage(); err != nil || kind != sent.kind || string(data) != sent.data {
				t.Errorf("%d %.20q %v, want %d %.20q", kind, data, err, sent.kind, sent.data)
			}
		}
		bye := websocket.FormatCloseMessage(websocket.CloseNormalClosure, "")
		if err := conn.WriteMessage(websocket.CloseMessage, bye); err != nil {
			t.Fatal(err)
		}
		if _, _, err := conn.ReadMessage(); !websocket.IsCloseError(err, websocket.CloseNormalClosure) {
			t.Error(err)
		}
	})
}

var login = "Basic " + base64.StdEncoding.EncodeToString([]byte("admin:admin123"))

// curl -N --user admin:admin123, the page's EventSource, and a Go client of SSE.
func TestGinSSE(t *testing.T) {
	browser := harness.StartChromium(t)
	both(t, "ginsse", func(t *testing.T, program *harness.Program) {
		refused, err := http.Get(program.URL + "/stream")
		if err != nil {
			t.Fatal(err)
		}
		refused.Body.Close()
		if refused.StatusCode != http.StatusUnauthorized {
			t.Error(refused.Status)
		}

		client := sse.NewClient(program.URL + "/stream")
		client.Headers["Authorization"] = login
		got := make(chan *sse.Event, 100)
		if err := client.SubscribeChanRaw(got); err != nil {
			t.Fatal(err)
		}
		defer client.Unsubscribe(got)
		last := 0
		for heard := 0; heard < 5; {
			select {
			case event := <-got:
				if len(event.Data) == 0 || strings.HasPrefix(string(event.Event), "push-") {
					continue
				}
				var n int
				_, err := fmt.Sscanf(string(event.Data), "tick %d", &n)
				// The old program leaves out ticks for a client that is slow.
				follows := heard == 0 || n == last+1 || n > last && strings.HasSuffix(t.Name(), "/before")
				if err != nil || string(event.Event) != "message" || !follows {
					t.Fatalf("%q %q after %d", event.Event, event.Data, last)
				}
				last = n
				heard++
			case <-time.After(harness.Patience):
				t.Fatal("no tick")
			}
		}

		tab := browser.Open(t, program.URL+"/nothing")
		tab.Header(t, "Authorization", login)
		tab.Evaluate(t, `new Promise((done, failed) => {
			window.ticks = [];
			const source = new EventSource(location.origin + "/stream");
			source.addEventListener("message", ({data}) => { if (ticks.push(data) === 3) { source.close(); done(); } });
			source.onerror = () => failed(new Error("closed"));
		})`)
		if text := tab.Evaluate(t, `ticks.join()`).(string); !regexp.MustCompile(`^(tick \d+,?){3}$`).MatchString(text) {
			t.Error(text)
		}
	})
}

// melody's clients are pages with a WebSocket, and programs that dial.
func TestMelody(t *testing.T) {
	browser := harness.StartChromium(t)
	both(t, "melody", func(t *testing.T, program *harness.Program) {
		tab := browser.Open(t, program.URL+"/nothing")
		tab.Evaluate(t, `new Promise((done, failed) => {
			window.got = [];
			window.ws = new WebSocket(location.origin.replace("http", "ws") + "/ws");
			ws.onopen = done;
			ws.onmessage = ({data}) => got.push(data);
			ws.onerror = failed;
		})`)
		one, two := dial(t, program, "/ws"), dial(t, program, "/ws")
		clients := []*websocket.Conn{one, two}
		want := func(text string) {
			t.Helper()
			for _, conn := range clients {
				if kind, data, err := conn.ReadMessage(); err != nil || kind != websocket.TextMessage || string(data) != text {
					t.Fatalf("%d %q %v, want %q", kind, data, err, text)
				}
			}
		}
		// A client that has dialled may not be in melody's hub yet. A client that has got its own message is.
		tab.Evaluate(t, `ws.send("page")`)
		tab.Wait(t, `got.includes("page")`)
		for i, conn := range clients {
			name := fmt.Sprint("client ", i)
			if err := conn.WriteMessage(websocket.TextMessage, []byte(name)); err != nil {
				t.Fatal(err)
			}
			for _, there := range clients[:i+1] {
				heardUntil(t, there, name)
			}
		}
		tab.Wait(t, `got.includes("client 1")`)
		tab.Evaluate(t, `got.length = 0`)
		for i := range 20 {
			if err := one.WriteMessage(websocket.TextMessage, fmt.Append(nil, "from one ", i)); err != nil {
				t.Fatal(err)
			}
			want(fmt.Sprint("from one ", i))
		}
		tab.Evaluate(t, `ws.send("from the page")`)
		want("from the page")
		tab.Wait(t, `got.length === 21 && got[20] === "from the page" && got[0] === "from one 0"`)
	})
}

// heardUntil skips the messages of a client before a text.
func heardUntil(t *testing.T, conn *websocket.Conn, text string) {
	t.Helper()
	for {
		_, data, err := conn.ReadMessage()
		if err != nil {
			t.Fatal(err)
		}
		if string(data) == text {
			return
		}
	}
}

var block = regexp.MustCompile("(?s)<!-- (\\S+\\.go) -->\n```go\n(.*?)```")

// The page shows the programs as they are, except for indentation.
func TestPageShowsThePrograms(t *testing.T) {
	page, err := os.ReadFile("../MIGRATING.md")
	if err != nil {
		t.Fatal(err)
	}
	flat := func(text string) string {
		var lines []string
		for line := range strings.Lines(text) {
			lines = append(lines, strings.TrimSpace(line))
		}
		return strings.Join(lines, "\n")
	}
	shown := map[string]bool{}
	for _, found := range block.FindAllStringSubmatch(string(page), -1) {
		file, code := found[1], found[2]
		shown[file] = true
		source, err := os.ReadFile(filepath.Join("..", file))
		if err != nil {
			t.Error(err)
			continue
		}
		for part := range strings.SplitSeq(code, "\n…\n") {
			if !strings.Contains(flat(string(source)), strings.TrimSpace(flat(part))) {
				t.Errorf("%s has no\n%s", file, part)
			}
		}
	}
	programs, err := filepath.Glob("*/*/main.go")
	if err != nil || len(programs) != 6 {
		t.Fatal(programs, err)
	}
	for _, program := range programs {
		if !shown["migrate/"+program] {
			t.Errorf("the page does not show %s", program)
		}
	}
}
