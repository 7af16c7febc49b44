//go:build cgo

package push

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
)

// Refusal is an error of authorize that says how to refuse the client: with an HTTP status and a JSON body
// {"error":{"code":…,"message":…}}, in the same way as the library.
//
// An EventSource never comes back after an error status. After 408, 425, 429 and all from 500 it should, so it is told
// in an event stream that ends at once.
type Refusal struct {
	// Status is the HTTP status, 400 to 599. With any other the client gets [ErrForbidden].
	Status int
	// Code is a word for programs. The client gets its first 64 bytes.
	Code string
	// Message is a sentence for people. The client gets its first 1024 bytes.
	Message string
}

// Common refusals of authorize.
var (
	// ErrUnauthorized is 401: there is no login, or it has ended.
	ErrUnauthorized = &Refusal{http.StatusUnauthorized, "unauthorized", "log in first"}
	// ErrForbidden is 403: not for this user. Any error that holds no Refusal becomes this one, unless it holds a status
	// of this package that is not the client's fault, such as [ErrBusy] or [ErrTimeout]: then the client is told to come
	// back. The error itself is not shown to the client.
	ErrForbidden = &Refusal{http.StatusForbidden, "forbidden", "not allowed"}
)

// Error is for logs.
func (r *Refusal) Error() string {
	return fmt.Sprintf("push: %d %s: %s", r.Status, r.Code, r.Message)
}

var (
	errNotGET = &Refusal{http.StatusMethodNotAllowed, "method_not_allowed", "only GET subscribes here"}
	// errNoWebSocket refuses a complete handshake. The library would get only a part of it and blame a proxy.
	errNoWebSocket = &Refusal{http.StatusBadRequest, "websocket",
		"the server can't take this connection over, so no WebSocket can begin here; the other transports work"}
	// errHeldBack does not go away before the service is changed, so it is no use to come back.
	errHeldBack = &Refusal{http.StatusInternalServerError, "internal", "the server can't do that"}
)

// Bounds of the library for a refusal's words.
const (
	maxCode    = 64
	maxMessage = 1024
)

// notTheClients are the statuses of calls for which the client is not to blame. It may come back.
var notTheClients = []Status{
	ErrBusy, ErrLimit, ErrClosed, ErrTimeout, ErrDescriptor, ErrSystem, ErrInternal, ErrUnsupported,
}

// refusalFor returns what a client is told of an error: the status of the library's call that failed, or a Refusal.
func refusalFor(err error) (Status, *Refusal) {
	var refusal *Refusal
	if errors.As(err, &refusal) {
		// A nil *Refusal makes an error that is not nil. Other statuses would let the client in, or panic in net/http.
		if refusal == nil || refusal.Status < 400 || refusal.Status > 599 {
			return statusOK, ErrForbidden
		}
		return statusOK, refusal
	}
	for _, status := range notTheClients {
		if errors.Is(err, status) {
			return status, nil
		}
	}
	return statusOK, ErrForbidden
}

// refusal is the whole answer to a client that is turned away. The library writes it.
func (s *Server) refusal(asked *http.Request, err error) []byte {
	var head []byte
	if err != errHeldBack {
		asked = asked.WithContext(asked.Context()) // a copy
		asked.TransferEncoding = nil               // a body that nobody has read does not matter any more
		head = requestHead(nil, asked, "1.1", noAddresses)
	}
	status, refusal := refusalFor(err)
	if refusal == nil {
		return s.handle.refusal(int32(status), "", head)
	}
	words := cut(refusal.Code, maxCode) + "\x00" + cut(refusal.Message, maxMessage) + "\x00"
	return s.handle.refusal(int32(refusal.Status), words, head)
}

// cut makes a text one that the library takes.
func cut(text string, size int) string {
	text = strings.ToValidUTF8(strings.ReplaceAll(text, "\x00", " "), "\uFFFD")
	if len(text) <= size {
		return text
	}
	return strings.ToValidUTF8(text[:size], "") // without half a rune at its end
}

// turnAway answers through a ResponseWriter.
func (s *Server) turnAway(w http.ResponseWriter, asked *http.Request, err error) {
	response, failed := http.ReadResponse(bufio.NewReader(bytes.NewReader(s.refusal(asked, err))), asked)
	if failed != nil { // not possible
		w.WriteHeader(http.StatusInternalServerError)
		return
	}
	for name, values := range response.Header {
		// There is no length: a middleware may compress the body, and net/http counts the bytes.
		if isRelayed(name) && name != "Content-Length" && !(err == errHeldBack && name == "Retry-After") {
			w.Header()[name] = values
		}
	}
	if upgrade := response.Header["Upgrade"]; upgrade != nil && asked.ProtoMajor == 1 { // HTTP/2 has none
		w.Header()["Upgrade"], w.Header()["Connection"] = upgrade, []string{"Upgrade"}
	}
	w.WriteHeader(response.StatusCode)
	_, _ = io.Copy(w, response.Body) // a client that is gone needs no answer
}
