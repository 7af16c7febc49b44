//go:build cgo

package push

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"strconv"
	"strings"
)

// Refusal is an error of authorize that says what the client is told: an HTTP status with a JSON body
// {"error":{"code":…,"message":…}}, as the library itself refuses.
//
// An EventSource never comes back after an error status. Where it should, with 408, 425, 429 and all from 500, it is told
// within an event stream that ends at once.
type Refusal struct {
	// Status is the HTTP status, 400 to 599. With any other the client gets [ErrForbidden].
	Status int
	// Code is a word for programs.
	Code string
	// Message is a sentence for people. The client reads it.
	Message string
}

// What authorize mostly refuses with.
var (
	// ErrUnauthorized is 401: there is no login, or it has ended.
	ErrUnauthorized = &Refusal{http.StatusUnauthorized, "unauthorized", "log in first"}
	// ErrForbidden is 403: not for this user. It is also what any error that holds no Refusal becomes; the error itself
	// is not shown to the client.
	ErrForbidden = &Refusal{http.StatusForbidden, "forbidden", "not allowed"}
)

// Error is for logs.
func (r *Refusal) Error() string {
	return fmt.Sprintf("push: %d %s: %s", r.Status, r.Code, r.Message)
}

var (
	errNotGET      = &Refusal{http.StatusMethodNotAllowed, "method_not_allowed", "only GET subscribes here"}
	errUnavailable = &Refusal{http.StatusServiceUnavailable, "unavailable", "no room, or the server is going away"}
	errDefect      = &Refusal{http.StatusInternalServerError, "internal", "the server can't do that"}
	// errNoWebSocket is for a whole handshake. The library would see a part of it and blame a proxy.
	errNoWebSocket = &Refusal{http.StatusBadRequest, "websocket",
		"the server can't take this connection over, so no WebSocket can begin here; the other transports work"}
	// errHeldBack stays as it is until the service is built otherwise; to come back would be no use.
	errHeldBack = &Refusal{http.StatusInternalServerError, "internal", "the server can't do that"}
)

// refusalFor is what a client is told of an error.
func refusalFor(err error) *Refusal {
	var refusal *Refusal
	if errors.As(err, &refusal) {
		// A *Refusal that is nil makes an error that is not; another status would let in, or panic in net/http.
		if refusal == nil || refusal.Status < 400 || refusal.Status > 599 {
			return ErrForbidden
		}
		return refusal
	}
	switch {
	case errors.Is(err, ErrBusy), errors.Is(err, ErrLimit), errors.Is(err, ErrClosed):
		return errUnavailable
	case errors.Is(err, ErrDescriptor), errors.Is(err, ErrSystem), errors.Is(err, ErrInternal):
		return errDefect
	default:
		return ErrForbidden
	}
}

// retryAfter is in seconds: from 5 to 10, as the library's, by chance, so that a crowd that was refused at once does not
// come back at once.
func retryAfter() int {
	return 5 + rand.IntN(6)
}

// response is the whole answer.
func (r *Refusal) response(asked *http.Request) *http.Response {
	header := http.Header{"Content-Type": {"application/json"}, "Cache-Control": {"no-store, no-transform"}}
	status, body := r.Status, string(r.body())
	switch {
	case status == http.StatusMethodNotAllowed:
		header.Set("Allow", "GET, OPTIONS")
	case status == http.StatusUnauthorized:
		header.Set("WWW-Authenticate", "Bearer")
	case status == http.StatusUpgradeRequired && asked.ProtoMajor == 1: // RFC 9110, section 15.5.22; HTTP/2 has none
		header.Set("Upgrade", "websocket")
		header.Set("Connection", "Upgrade")
	case r.passes() && wantsEvents(asked):
		status, body = http.StatusOK, r.events()
		header.Set("Content-Type", "text/event-stream")
	case r.passes():
		header.Set("Retry-After", strconv.Itoa(retryAfter()))
	}
	return &http.Response{
		StatusCode: status, ProtoMajor: 1, ProtoMinor: 1, Request: asked, Header: header, Close: true,
		Body: io.NopCloser(strings.NewReader(body)), ContentLength: int64(len(body)),
	}
}

// passes says that the same request may be answered better later.
func (r *Refusal) passes() bool {
	switch r.Status {
	case http.StatusRequestTimeout, http.StatusTooEarly, http.StatusTooManyRequests:
		return true
	}
	return r.Status >= 500 && r != errHeldBack
}

func (r *Refusal) body() []byte {
	type inner struct {
		Code    string `json:"code"`
		Message string `json:"message"`
	}
	body, err := json.Marshal(struct {
		Error inner `json:"error"`
	}{inner{r.Code, r.Message}})
	if err != nil {
		return nil // two strings; not possible
	}
	return append(body, '\n')
}

// events says the same to an EventSource, which comes back after it.
func (r *Refusal) events() string {
	code := 1001
	if r.Status == http.StatusTooManyRequests {
		code = 4429
	}
	reason, _ := json.Marshal(r.Message)
	return fmt.Sprintf("retry: %d\nevent: push-close\ndata: {\"type\":\"close\",\"code\":%d,\"reason\":%s}\n\n",
		5000+rand.IntN(5001), code, reason)
}

// write answers through a ResponseWriter.
func (r *Refusal) write(w http.ResponseWriter, asked *http.Request) {
	response := r.response(asked)
	for name, values := range response.Header {
		w.Header()[name] = values
	}
	// No length: a middleware may compress the body, and net/http counts what is written.
	w.WriteHeader(response.StatusCode)
	_, _ = io.Copy(w, response.Body) // who is gone needs no answer
}
