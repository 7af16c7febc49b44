package push_test

import (
	"encoding/json"
	"io"
	"net/http"
	"strings"
	"testing"

	"libpush.example/go/push"
)

// If authorize does something wrong, the client is refused, and the request's goroutine does not crash.
func TestRefusalsThatAreNone(t *testing.T) {
	srv := startClean(t, push.Config{})
	var missing *push.Refusal
	for name, refusal := range map[string]*push.Refusal{
		"nil": missing, "zero": {}, "one": {Status: 1}, "informational": {Status: 101}, "fine": {Status: 200},
		"no content": {Status: 204}, "elsewhere": {Status: 302}, "beyond": {Status: 600}, "four digits": {Status: 1000},
	} {
		service := serve(t, srv.Handler(func(*http.Request) (push.Grant, error) { return push.Grant{}, refusal }))
		response, err := service.Client().Get(service.URL + "/push?channel=c")
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		response.Body.Close()
		if response.StatusCode != http.StatusForbidden {
			t.Errorf("%s: %s", name, response.Status)
		}
	}
	if err := srv.Deny(1, nil); err == nil {
		t.Error("Deny without a refusal")
	}
}

// An EventSource never comes back after an error status. If the same request may succeed later, it is told to come
// back.
func TestRefusalsThatPass(t *testing.T) {
	srv := startClean(t, push.Config{})
	var status int
	service := serve(t, srv.Handler(func(*http.Request) (push.Grant, error) {
		return push.Grant{}, &push.Refusal{Status: status, Code: "code", Message: "message"}
	}))
	for _, status = range []int{400, 401, 403, 404, 408, 409, 422, 425, 429, 500, 502, 503, 504, 599} {
		passes := status == 408 || status == 425 || status == 429 || status >= 500
		response, body := get(t, service.Client(), service.URL+"/push?channel=c", http.Header{"Accept": {"text/event-stream"}})
		text, _ := io.ReadAll(body)
		toldTo := response.StatusCode == 200 && strings.Contains(string(text), "event: push-close\n")
		if toldTo != passes || (!passes && response.StatusCode != status) {
			t.Errorf("%d: %s %s", status, response.Status, text)
		}
		if response.Header.Get("Cache-Control") != "no-store, no-transform" {
			t.Errorf("%d: %v", status, response.Header)
		}
		if response, _ = get(t, service.Client(), service.URL+"/push?channel=c", nil); response.StatusCode != status {
			t.Errorf("%d: a poll gets %s", status, response.Status)
		}
	}
}

// A page of an allowed origin can read why it is refused. A browser would end its EventSource otherwise.
func TestRefusalsForPagesOfOtherOrigins(t *testing.T) {
	srv := startClean(t, push.Config{AllowedOrigins: []string{"https://app.example.org"}})
	service := serve(t, srv.Handler(func(*http.Request) (push.Grant, error) {
		return push.Grant{}, &push.Refusal{Status: 503, Code: "later", Message: "not now"}
	}))
	for origin, allowed := range map[string]string{"https://app.example.org": "https://app.example.org", "https://evil.test": ""} {
		for _, accept := range []string{"text/event-stream", "*/*"} {
			response, _ := get(t, service.Client(), service.URL+"/push?channel=c", http.Header{
				"Accept": {accept}, "Origin": {origin},
			})
			if got := response.Header.Get("Access-Control-Allow-Origin"); got != allowed {
				t.Errorf("%s, %s: %s %v", origin, accept, response.Status, response.Header)
			}
			response.Body.Close()
		}
	}
}

// Words of any kind arrive as valid JSON, and those that are too long are cut.
func TestRefusalsWithOddWords(t *testing.T) {
	srv := startClean(t, push.Config{})
	var refusal push.Refusal
	service := serve(t, srv.Handler(func(*http.Request) (push.Grant, error) { return push.Grant{}, &refusal }))
	for words, told := range map[string]string{
		"": "", "a\x00b": "a b", "\xff\"\\\n": "\uFFFD\"\\\n", "<&>": "<&>",
		strings.Repeat("\u00e9", 600): strings.Repeat("\u00e9", 512), "x" + strings.Repeat("\u00e9", 600): "x" + strings.Repeat("\u00e9", 511),
	} {
		refusal = push.Refusal{Status: 403, Code: words, Message: words}
		response, body := get(t, service.Client(), service.URL+"/push?channel=c", nil)
		text, _ := io.ReadAll(body)
		var answer struct {
			Error struct{ Code, Message string }
		}
		if err := json.Unmarshal(text, &answer); err != nil || response.StatusCode != 403 || answer.Error.Message != told {
			t.Errorf("%q: %s %v %s", words, response.Status, err, text)
		}
		if !strings.HasPrefix(told, answer.Error.Code) || len(answer.Error.Code) > 64 {
			t.Errorf("%q: %s", words, text)
		}
	}
}

// A proxy that knows no WebSockets drops the header lines that are for one connection only. If the request were taken
// for a poll, the client would wait in vain.
func TestHandshakeThatLostItsUpgrade(t *testing.T) {
	srv := startClean(t, push.Config{})
	service := serve(t, srv.Handler(push.Anyone))
	lost := http.Header{"Sec-Websocket-Version": {"13"}, "Sec-Websocket-Key": {"dGhlIHNhbXBsZSBub25jZQ=="}}
	response, body := get(t, service.Client(), service.URL+"/push?channel=c", lost)
	text, _ := io.ReadAll(body)
	for _, word := range []string{"Upgrade: websocket", "proxy"} {
		if response.StatusCode != http.StatusBadRequest || !strings.Contains(string(text), word) {
			t.Errorf("%s %s", response.Status, text)
		}
	}
	// If the query names a transport, the query decides.
	publish(t, srv, "c", "already there")
	response, body = get(t, service.Client(), service.URL+"/push?channel=c&last=1&transport=poll", lost)
	if text, _ = io.ReadAll(body); response.StatusCode != http.StatusOK {
		t.Errorf("%s %s", response.Status, text)
	}
}

// The library answers preflights, and a middleware's own line Vary stays.
func TestPreflight(t *testing.T) {
	srv := startClean(t, push.Config{AllowedOrigins: []string{"https://*.example.org"}})
	handler := srv.Handler(push.Anyone)
	service := serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Vary", "Accept-Encoding")
		handler.ServeHTTP(w, r)
	}))
	request, _ := http.NewRequest(http.MethodOptions, service.URL+"/push?channel=c", nil)
	request.Header = http.Header{
		"Origin":                         {"https://app.example.org"},
		"Access-Control-Request-Method":  {"GET"},
		"Access-Control-Request-Headers": {"traceparent,x-requested-with"},
	}
	response, err := service.Client().Do(request)
	if err != nil {
		t.Fatal(err)
	}
	response.Body.Close()
	allowed := response.Header.Get("Access-Control-Allow-Headers")
	if response.StatusCode != http.StatusNoContent || !strings.HasSuffix(allowed, ", traceparent, x-requested-with") {
		t.Errorf("%s %v", response.Status, response.Header)
	}
	vary := strings.Join(response.Header["Vary"], ", ")
	if vary != "Accept-Encoding, Origin, Access-Control-Request-Headers" {
		t.Error(vary)
	}
}

// Browsers and other clients fail the connection if none of the subprotocols that they offer is chosen.
func TestSubprotocols(t *testing.T) {
	srv := startClean(t, push.Config{})
	service := serve(t, srv.Handler(push.Anyone))
	for offered, chosen := range map[string]string{
		"my-app": "my-app", "my-app, push.v1.json": "push.v1.json", "eyJhbGciOiJIUzI1NiJ9.e30.c2ln, my-app": "my-app",
	} {
		response, _ := get(t, service.Client(), service.URL+"/push?channel=c", http.Header{
			"Upgrade": {"websocket"}, "Connection": {"Upgrade"}, "Sec-Websocket-Version": {"13"},
			"Sec-Websocket-Key": {"dGhlIHNhbXBsZSBub25jZQ=="}, "Sec-Websocket-Protocol": {offered},
		})
		if got := response.Header.Get("Sec-Websocket-Protocol"); response.StatusCode != 101 || got != chosen {
			t.Errorf("%s: %s %q", offered, response.Status, got)
		}
		response.Body.Close()
	}
}

func TestUpgradeRequired(t *testing.T) {
	srv := startClean(t, push.Config{})
	old := http.Header{
		"Upgrade": {"websocket"}, "Connection": {"Upgrade"},
		"Sec-Websocket-Version": {"8"}, "Sec-Websocket-Key": {"dGhlIHNhbXBsZSBub25jZQ=="},
	}
	refuse := &push.Refusal{Status: http.StatusUpgradeRequired, Code: "websocket", Message: "only WebSockets here"}
	for name, authorize := range map[string]func(*http.Request) (push.Grant, error){
		"the library": push.Anyone,
		"the service": func(*http.Request) (push.Grant, error) { return push.Grant{}, refuse },
	} {
		service := serve(t, srv.Handler(authorize))
		response, _ := get(t, service.Client(), service.URL+"/push?channel=c", old)
		// Go's client removes the line Connection if it says close.
		if response.StatusCode != http.StatusUpgradeRequired || response.Header.Get("Upgrade") != "websocket" {
			t.Errorf("%s: %s %v", name, response.Status, response.Header)
		}
	}
}
