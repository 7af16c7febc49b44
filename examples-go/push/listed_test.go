package push_test

import (
	"context"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"path/filepath"
	"strings"
	"testing"

	"libpush.example/go/internal/harness"
	"libpush.example/go/push"
)

// listed is a connection as the control API lists it.
type listed struct {
	ID, Address, Transport string
	Adopted                bool
	Waiting                int
}

// operator asks the control API at a Unix socket.
type operator struct {
	t      *testing.T
	client *http.Client
}

func newOperator(t *testing.T, socket string) operator {
	dial := func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", socket)
	}
	return operator{t, &http.Client{Transport: &http.Transport{DialContext: dial, DisableKeepAlives: true}}}
}

func (o operator) ask(method, path string, into any) {
	o.t.Helper()
	request, err := http.NewRequestWithContext(deadline(o.t), method, "http://localhost"+path, nil)
	if err != nil {
		o.t.Fatal(err)
	}
	response, err := o.client.Do(request)
	if err != nil {
		o.t.Fatal(err)
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err == nil && response.StatusCode == http.StatusOK {
		err = json.Unmarshal(body, into)
	}
	if err != nil || response.StatusCode != http.StatusOK {
		o.t.Fatalf("%s: %s %q %v", path, response.Status, body, err)
	}
}

func (o operator) list(query string) []listed {
	o.t.Helper()
	var page struct{ Connections []listed }
	o.ask(http.MethodGet, "/v1/connections?"+query, &page)
	return page.Connections
}

// Go keeps the connection of such a client. It is listed with its own address, whatever it has written into its header
// lines, is seen to be slow, and is closed.
func TestASlowRelayedClientIsListedWithItsAddressAndClosed(t *testing.T) {
	harness.CheckLeaks(t)
	socket := filepath.Join(t.TempDir(), "control")
	srv := start(t, push.Config{Options: map[string]string{
		"control": "unix:" + socket, "trusted_proxies": "unix", "outbox": "64MB", "history_count": "0",
	}})
	api := newOperator(t, socket)
	service, _ := secure(t, srv.Handler(push.Anyone))
	defer service.Client().CloseIdleConnections()
	big := strings.Repeat("x", 900_000)
	for _, test := range []struct {
		name   string
		client *http.Client
	}{{"HTTP/1.1", oldClient(service)}, {"HTTP/2", service.Client()}} {
		_, body := get(t, test.client, service.URL+"/push?channel=c&transport=sse",
			http.Header{"X-Forwarded-For": {"192.0.2.9"}, "Forwarded": {"for=192.0.2.9"}})
		var slow listed
		harness.Wait(t, "it is slow", func() bool {
			publish(t, srv, "c", big)
			found := api.list("address=127.0.0.1&slow=1")
			if len(found) == 1 {
				slow = found[0]
			}
			return slow.Waiting > len(big)
		})
		if slow.Address != "127.0.0.1" || slow.Transport != "sse" || !slow.Adopted {
			t.Errorf("%s: %+v", test.name, slow)
		}
		for _, other := range []string{"unix", "192.0.2.9"} {
			if found := api.list("address=" + other); len(found) != 0 {
				t.Errorf("%s: %+v", test.name, found)
			}
		}
		var nothing struct{}
		api.ask(http.MethodPost, "/v1/close?code=4000&reason=slow&connection="+slow.ID, &nothing)
		_, _ = io.Copy(io.Discard, body)
		harness.Wait(t, "it is gone", func() bool { return len(api.list("address=127.0.0.1")) == 0 })
	}
}

// The limits of an address hold for clients whose connection Go keeps, and for those of a proxy in front of Go.
func TestLimitsOfRelayedClients(t *testing.T) {
	harness.CheckLeaks(t)
	for _, header := range []string{"x-forwarded-for", "forwarded"} {
		for _, trusted := range []string{"unix", "unix, 127.0.0.1"} {
			srv := start(t, push.Config{Options: map[string]string{
				"max_per_address": "1", "trusted_proxies": trusted, "forwarded_header": header,
			}})
			service, _ := secure(t, srv.Handler(push.Anyone))
			// If 127.0.0.1 is not a proxy, what it says of others does not count.
			wanted := []int{200, 429, 429}
			if trusted != "unix" {
				wanted = []int{200, 429, 200}
			}
			for i, client := range []*http.Client{oldClient(service), service.Client(), service.Client()} {
				address := []string{"192.0.2.1", "192.0.2.1", "192.0.2.2"}[i]
				response, _ := get(t, client, service.URL+"/push?channel=c&transport=stream",
					http.Header{"X-Forwarded-For": {address}, "Forwarded": {"for=" + address}})
				if response.StatusCode != wanted[i] {
					t.Errorf("%s, %s, client %d: %s", header, trusted, i, response.Status)
				}
			}
		}
	}
}
