package push_test

import (
	"fmt"
	"net/http"
	"testing"

	"libpush.example/go/internal/harness"
	"libpush.example/go/push"
)

// Over HTTP/1.1 a browser has six connections to a host. Over HTTP/2 one page has 200 EventSources, and a WebSocket as
// well.
func TestChromiumOverHTTP2(t *testing.T) {
	browser := harness.StartChromium(t)
	srv := start(t, push.Config{})
	subscribers := srv.Handler(push.Anyone)
	service, requests := secure(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Query().Has("page") {
			w.Header().Set("Content-Type", "text/html")
			fmt.Fprint(w, "<!doctype html><title>page</title>")
			return
		}
		subscribers.ServeHTTP(w, r)
	}))
	tab := browser.Open(t, service.URL+"/push?page")
	const count = 200
	tab.Evaluate(t, fmt.Sprintf(`
		window.got = [];
		window.sources = Array.from({length: %d}, (_, i) => {
			const source = new EventSource("/push?channel=c&n=" + i);
			source.onmessage = ({data}) => (got[i] ??= []).push(data);
			return source;
		});
		Promise.all(sources.map((source) => new Promise((done) => source.onopen = done)))`, count))
	defer func() {
		if t.Failed() {
			t.Log(stats(t, srv), tab.Evaluate(t, `JSON.stringify(sources.map((source, i) => [i, source.readyState, got[i]?.join()])
				.filter(([, state, all]) => state !== 1 || all !== "one,two"))`))
		}
	}()
	publish(t, srv, "c", "one")
	publish(t, srv, "c", "two")
	tab.Wait(t, fmt.Sprintf(`got.length === %d && Array.from(got).every((all) => all?.join() === "one,two")`, count))
	protocols := `[...new Set(performance.getEntriesByType("resource").map((entry) => entry.nextHopProtocol))].join()`
	harness.Wait(t, "the EventSources are there", func() bool { return stats(t, srv).SSE == count })
	// A busy browser may have begun anew with another connection.
	if connections, major := requests.count(); connections > 5 || major != 2 {
		t.Errorf("%d EventSources over %d connections, HTTP/%d", count, connections, major)
	}

	tab.Evaluate(t, `new Promise((done, failed) => {
		window.socket = new WebSocket(location.origin.replace("https", "wss") + "/push?channel=c&last=1");
		socket.onmessage = ({data}) => { window.frame = data; done(); };
		socket.onclose = socket.onerror = () => failed(new Error("closed"));
	})`)
	if got := tab.Evaluate(t, "window.frame"); got != "two" {
		t.Errorf("over the WebSocket came %v", got)
	}
	tab.Evaluate(t, `sources.forEach((source) => source.close())`)
	harness.Wait(t, "the EventSources are gone", func() bool { return stats(t, srv).SSE == 0 })
	if got := tab.Evaluate(t, protocols); got != "" && got != "h2" {
		t.Errorf("resources came by %v", got)
	}
}
