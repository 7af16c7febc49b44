//go:build cgo

package push

import (
	"net/http"
	"net/url"
	"strings"
	"testing"
)

// What a client has written about its address stands left of what Go sees, where it does not count.
func TestHeadsNameTheAddressThatGoSees(t *testing.T) {
	for _, test := range []struct{ remote, bare, quoted string }{
		{"192.0.2.1:80", "192.0.2.1", "192.0.2.1"},
		{"192.0.2.1", "192.0.2.1", "192.0.2.1"},
		{"[2001:db8::1]:80", "2001:db8::1", `"[2001:db8::1]"`},
		{"2001:db8::1", "2001:db8::1", `"[2001:db8::1]"`},
		{"[fe80::1%eth0]:80", "fe80::1", `"[fe80::1]"`},
		{"[::ffff:192.0.2.1]:80", "192.0.2.1", "192.0.2.1"},
		{"@", "unknown", "unknown"},
		{"", "unknown", "unknown"},
		{"192.0.2.1\r\nX: y", "unknown", "unknown"},
	} {
		r := &http.Request{
			Method: http.MethodGet, URL: &url.URL{Path: "/push"}, Host: "h", RemoteAddr: test.remote,
			Header: http.Header{"X-Forwarded-For": {"198.51.100.1", "a\r\nb"}, "Forwarded": {`for="198.51.100.1`}},
		}
		head := string(requestHead(nil, r, "1.1", seenAddresses))
		end := "X-Forwarded-For: " + test.bare + "\r\nForwarded: for=" + test.quoted + "\r\n\r\n"
		if !strings.HasSuffix(head, end) || strings.Count(head, "X-Forwarded-For: ") != 3 {
			t.Errorf("%q: %q", test.remote, head)
		}
		given := string(requestHead(nil, r, "1.1", givenAddresses))
		if strings.Count(given, "Forwarded") != 3 || strings.Contains(given, test.bare+"\r\n") {
			t.Errorf("%q: %q", test.remote, given)
		}
		if none := string(requestHead(nil, r, "1.1", noAddresses)); strings.Contains(none, "Forwarded") {
			t.Errorf("%q: %q", test.remote, none)
		}
	}
}
