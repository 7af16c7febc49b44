package push_test

import (
	"net/http"
	"testing"

	"libpush.example/go/internal/harness"
	"libpush.example/go/push"
)

// The limits of an address hold for the clients of a trusted proxy, each by its own address.
func TestLimitsBehindAProxy(t *testing.T) {
	harness.CheckLeaks(t)
	for _, test := range []struct{ option, line, by string }{
		{"x-forwarded-for", "X-Forwarded-For", ""}, {"forwarded", "Forwarded", "for="},
	} {
		srv := start(t, push.Config{Options: map[string]string{
			"max_per_address": "1", "trusted_proxies": "127.0.0.1", "forwarded_header": test.option,
		}})
		service := serve(t, srv.Handler(push.Anyone))
		for i, want := range []int{200, 429, 200} {
			address := []string{"192.0.2.1", "192.0.2.1", "192.0.2.2"}[i]
			response, _ := get(t, service.Client(), service.URL+"/push?channel=c&transport=stream",
				http.Header{test.line: {test.by + address}})
			if response.StatusCode != want {
				t.Errorf("%s, client %d: %s", test.line, i, response.Status)
			}
		}
	}
}
