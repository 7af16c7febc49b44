//go:build cgo

package push

import (
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"
)

// handedOn are the header lines that the library reads. The others stay here: cookies and tokens are the service's, and
// the library bounds a head at 16 KB where Go allows 1 MB. A token among the names in Sec-WebSocket-Protocol does go on:
// beside a grant the library does not read it, but a browser that offers nothing else needs it as the answer.
func handedOn(name string) bool {
	switch name {
	case "Accept", "Connection", "Content-Length", "Last-Event-Id", "Origin", "Upgrade":
		return true
	}
	return strings.HasPrefix(name, "Sec-Websocket-") || strings.HasPrefix(name, "Access-Control-")
}

// requestHead writes a request as it came, as far as the library reads it, in the given version of HTTP. Where the
// grant says what is subscribed to, the URL does not. What a proxy says of the client's address goes along only with
// the proxy's own socket, by which the library sees whether to believe it; a pair has no address.
func requestHead(head []byte, r *http.Request, version string, subscribe []string, behindProxy bool) []byte {
	head = append(head, r.Method...)
	head = append(head, ' ')
	head = append(head, target(r.URL, subscribe)...)
	head = append(head, " HTTP/"...)
	head = append(head, version...)
	head = append(head, "\r\n"...)
	head = appendLine(head, "Host", r.Host)
	for name, values := range r.Header {
		if handedOn(name) || behindProxy && (name == "X-Forwarded-For" || name == "Forwarded") {
			for _, value := range values {
				head = appendLine(head, name, value)
			}
		}
	}
	// Go has taken this line out of the header; the library refuses it, see withoutEmptyBody.
	for _, coding := range r.TransferEncoding {
		head = appendLine(head, "Transfer-Encoding", coding)
	}
	return append(head, "\r\n"...)
}

// bodyLimit is how long the end of an empty body may take.
const bodyLimit = 10 * time.Second

// withoutEmptyBody is a request whose body in chunks has turned out to be empty, as one without: proxies that do not
// know whether there is a body send one with GET. Its end is read here, since what comes behind is another request. A
// body that is not empty is left with a coding that the library refuses.
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

// target is path and query. What a middleware may have put there stays one word.
func target(from *url.URL, subscribe []string) string {
	query := from.RawQuery
	if len(subscribe) > 0 {
		values := from.Query()
		values["channel"] = subscribe
		query = values.Encode()
	}
	path := from.EscapedPath()
	if !strings.HasPrefix(path, "/") {
		path = "/"
	}
	if query != "" {
		path += "?" + query
	}
	return strings.Map(func(c rune) rune {
		if c <= ' ' || c == 0x7f {
			return '_'
		}
		return c
	}, path)
}

var lineBreaks = strings.NewReplacer("\r", " ", "\n", " ")

func appendLine(head []byte, name, value string) []byte {
	head = append(append(head, name...), ": "...)
	return append(append(head, lineBreaks.Replace(value)...), "\r\n"...)
}

// wantsEvents, wantsWebSocket and opensWebSocket see what the library will see in the request.
func wantsEvents(r *http.Request) bool {
	switch r.URL.Query().Get("transport") {
	case "sse":
		return true
	case "":
		return !opensWebSocket(r) && headerHas(r, "Accept", "text/event-stream")
	}
	return false
}

func wantsWebSocket(r *http.Request) bool {
	return headerHas(r, "Upgrade", "websocket")
}

// opensWebSocket is also true of a handshake of which a proxy has dropped the Upgrade line.
func opensWebSocket(r *http.Request) bool {
	return wantsWebSocket(r) || r.Header.Get("Sec-Websocket-Key") != "" || r.Header.Get("Sec-Websocket-Version") != ""
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
