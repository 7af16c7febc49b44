//go:build cgo

package push

import (
	"io"
	"net/http"
	"net/netip"
	"strings"
	"time"
)

// handedOn are the header lines that the library reads. The others stay here: cookies and tokens are for the service,
// and the library bounds a head at 16 KB where Go allows 1 MB. A token among the names in Sec-WebSocket-Protocol does
// go on. With a grant the library does not read it, but a browser that offers nothing else needs it in the answer.
func handedOn(name string) bool {
	switch name {
	case "Accept", "Connection", "Content-Length", "Last-Event-Id", "Origin", "Upgrade":
		return true
	}
	return strings.HasPrefix(name, "Sec-Websocket-") || strings.HasPrefix(name, "Access-Control-")
}

// addresses are the header lines about the client's address that go along with a request.
type addresses int

const (
	// noAddresses: it is not about the client.
	noAddresses addresses = iota
	// givenAddresses: what the request says. It goes along with the client's or a proxy's own socket, by which the library
	// sees whether to trust a proxy.
	givenAddresses
	// seenAddresses: the same, and behind it the address that Go sees, since a socket pair has none. The library heeds
	// them if trusted_proxies has unix.
	seenAddresses
)

// requestHead writes the parts of a request that the library reads, in the given version of HTTP.
func requestHead(head []byte, r *http.Request, version string, lines addresses) []byte {
	head = append(head, r.Method...)
	head = append(head, ' ')
	head = append(head, oneWord(r.URL.RequestURI())...)
	head = append(head, " HTTP/"...)
	head = append(head, version...)
	head = append(head, "\r\n"...)
	head = appendLine(head, "Host", r.Host)
	for name, values := range r.Header {
		if handedOn(name) || lines != noAddresses && (name == "X-Forwarded-For" || name == "Forwarded") {
			for _, value := range values {
				head = appendLine(head, name, value)
			}
		}
	}
	// Go has taken this line out of the header. The library refuses it; see withoutEmptyBody.
	for _, coding := range r.TransferEncoding {
		head = appendLine(head, "Transfer-Encoding", coding)
	}
	if lines == seenAddresses {
		bare, quoted := seenAddress(r)
		head = appendLine(head, "X-Forwarded-For", bare)
		head = appendLine(head, "Forwarded", "for="+quoted)
	}
	return append(head, "\r\n"...)
}

// seenAddress is the address that a request came from, for X-Forwarded-For and for Forwarded (RFC 7239). It stands at
// the right end of both, where the library begins to read. So what a client has written there itself does not count, and
// neither does it where Go sees no address.
func seenAddress(r *http.Request) (bare, quoted string) {
	at, err := netip.ParseAddr(r.RemoteAddr) // a middleware may have put it there
	if err != nil {
		with, _ := netip.ParseAddrPort(r.RemoteAddr)
		at = with.Addr()
	}
	at = at.Unmap().WithZone("")
	switch {
	case !at.IsValid():
		return "unknown", "unknown"
	case at.Is4():
		return at.String(), at.String()
	default:
		return at.String(), `"[` + at.String() + `]"`
	}
}

// bodyLimit is how long the end of an empty body may take.
const bodyLimit = 10 * time.Second

// withoutEmptyBody drops the body of a request if it comes in chunks and is empty: proxies that do not know whether
// there is a body send one with GET. The end of the body is read here, since another request may follow. A body that is
// not empty keeps a coding that the library refuses.
func withoutEmptyBody(w http.ResponseWriter, r *http.Request) *http.Request {
	if len(r.TransferEncoding) == 0 {
		return r
	}
	control := http.NewResponseController(w)
	_ = control.SetReadDeadline(time.Now().Add(bodyLimit))
	_, err := io.ReadFull(r.Body, make([]byte, 1))
	_ = control.SetReadDeadline(time.Time{})
	r = r.WithContext(r.Context()) // a copy
	if err == io.EOF && len(r.Trailer) == 0 {
		r.TransferEncoding = nil
	} else {
		r.TransferEncoding = []string{"identity"}
	}
	return r
}

// oneWord keeps what a middleware may have put into a URL from ending the request line.
func oneWord(target string) string {
	return strings.Map(func(c rune) rune {
		if c <= ' ' || c == 0x7f {
			return '_'
		}
		return c
	}, target)
}

var lineBreaks = strings.NewReplacer("\r", " ", "\n", " ")

func appendLine(head []byte, name, value string) []byte {
	head = append(append(head, name...), ": "...)
	return append(append(head, lineBreaks.Replace(value)...), "\r\n"...)
}

// wantsWebSocket reads the request as the library will read it.
func wantsWebSocket(r *http.Request) bool {
	return headerHas(r, "Upgrade", "websocket")
}

func headerHas(r *http.Request, name, word string) bool {
	for _, value := range r.Header.Values(name) {
		for part := range strings.SplitSeq(value, ",") {
			part, _, _ = strings.Cut(part, ";")
			if strings.EqualFold(strings.TrimSpace(part), word) {
				return true
			}
		}
	}
	return false
}
