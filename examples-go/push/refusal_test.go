package push_test

import (
	"net/http"
	"testing"

	"libpush.example/go/internal/harness"
	"libpush.example/go/push"
)

// What authorize does wrong refuses the client, and takes no request's goroutine down.
func TestRefusalsThatAreNone(t *testing.T) {
	harness.CheckLeaks(t)
	srv := start(t, push.Config{})
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
