//go:build cgo

package push

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"sync"
	"syscall"
	"time"
)

// writeLimit is how long a client may take nothing at all before its connection is given up. Only tests change it.
var writeLimit = time.Minute

const (
	// closeLimit is how long a client may take to end its side, after the library has ended its own.
	closeLimit = 5 * time.Second
	// copied is how much goes from the pair to a client at once. Borrowed while there is something to copy.
	copied = 16 << 10
	// asked is what is read from a client at once; clients say little.
	asked = 1 << 10
)

var buffers = sync.Pool{New: func() any { return new([copied]byte) }}

// pipe connects a client whose bytes only Go understands, mostly a *tls.Conn, with the library, until either ends. It
// does not wait for that: the request's goroutine, with all that it has grown to, can go. Without an error the client's
// connection is the pipe's.
func (s *Server) pipe(client net.Conn, head []byte, grant *Grant) error {
	leave, ok := s.join()
	if !ok {
		return result("hand over", ErrClosed)
	}
	pair, err := s.adoptPair(head, grant)
	if err != nil {
		leave()
		return err
	}
	said := make(chan struct{})
	go func() {
		defer close(said)
		_, _ = io.CopyBuffer(writer{pair}, client, make([]byte, asked))
		// A client that ends its side is as good as gone, to the library as well.
		pair.Close()
	}()
	go func() {
		defer leave()
		defer client.Close()
		defer pair.Close()
		defer context.AfterFunc(s.over, func() { _ = client.SetDeadline(time.Unix(1, 0)) })()
		answer(client, pair, said)
	}()
	return nil
}

// answer gives the client what the library says, and then the time to end its side.
func answer(client net.Conn, pair *net.UnixConn, said <-chan struct{}) {
	err := copyOut(pair, func(bytes []byte) error {
		_ = client.SetWriteDeadline(time.Now().Add(writeLimit))
		_, err := client.Write(bytes)
		return err
	})
	if err == nil {
		endWrites(client)
		_ = client.SetReadDeadline(time.Now().Add(closeLimit))
	} else {
		client.Close()
		pair.Close() // the library may not be reading what the client has said
	}
	<-said
}

// writer hides what would make io.CopyBuffer leave its buffer unused.
type writer struct{ io.Writer }

func endWrites(client net.Conn) {
	switch client := client.(type) {
	case *tls.Conn:
		_ = client.SetWriteDeadline(time.Now().Add(closeLimit))
		_ = client.CloseWrite()
		// The alert alone does not end a browser's WebSocket; the end of the stream below does.
		if half, ok := client.NetConn().(interface{ CloseWrite() error }); ok {
			_ = half.CloseWrite()
		}
	case interface{ CloseWrite() error }:
		_ = client.CloseWrite()
	}
}

// copyOut gives all that the library says to write, until the library ends. It holds a buffer only while there is
// something to write. Nil: the library has ended, and all was written.
func copyOut(pair *net.UnixConn, write func([]byte) error) error {
	raw, err := pair.SyscallConn()
	if err != nil {
		return err
	}
	for {
		var (
			n      int
			failed error
			buffer *[copied]byte
		)
		err := raw.Read(func(fd uintptr) bool {
			buffer = buffers.Get().(*[copied]byte)
			n, failed = readSome(int(fd), buffer[:])
			if failed == syscall.EAGAIN {
				buffers.Put(buffer)
				buffer = nil
			}
			return failed != syscall.EAGAIN
		})
		if err == nil && failed == nil && n > 0 {
			failed = write(buffer[:n])
		}
		if buffer != nil {
			buffers.Put(buffer)
		}
		switch {
		case err != nil:
			return err
		case failed != nil:
			return failed
		case n == 0:
			return nil
		}
	}
}

func readSome(fd int, into []byte) (int, error) {
	for {
		n, err := syscall.Read(fd, into)
		if err != syscall.EINTR {
			return max(n, 0), err
		}
	}
}

// relay serves a client that there is no socket for: the library's answer goes through the ResponseWriter. Asked in
// HTTP/1.0, the library sends a body as it is, ended by the end of the pair.
func (h *handler) relay(w http.ResponseWriter, r *http.Request, grant *Grant) {
	leave, ok := h.server.join()
	if !ok {
		h.refuse(w, r, result("hand over", ErrClosed))
		return
	}
	defer leave()
	pair, err := h.server.adoptPair(requestHead(nil, r, "1.0", grant.Subscribe, false), grant)
	if err != nil {
		h.refuse(w, r, err)
		return
	}
	defer pair.Close()
	defer context.AfterFunc(r.Context(), func() { pair.Close() })()
	out := &flushed{w: w, control: http.NewResponseController(w)}
	out.limit(time.Time{}) // the service's WriteTimeout is not for who waits

	answer := bufio.NewReader(pair)
	response, err := http.ReadResponse(answer, r)
	if err != nil {
		if r.Context().Err() == nil {
			h.refuse(w, r, errUnavailable)
		}
		return
	}
	if response.ContentLength < 0 && response.StatusCode == http.StatusOK {
		if why := holdsBack(w); why != "" {
			h.warnOnce("push: no streams: " + why)
			errHeldBack.write(w, r)
			return
		}
	}
	for name, values := range response.Header {
		if name == "Vary" { // a middleware may have said by what its own part varies
			values = append(w.Header()[name], values...)
		}
		if relayed(name) {
			w.Header()[name] = values
		}
	}
	if w.Header().Get("Content-Encoding") != "" {
		w.Header().Del("Content-Length") // a middleware compresses it
	}
	w.WriteHeader(response.StatusCode)
	if response.StatusCode == http.StatusNoContent {
		return
	}
	defer context.AfterFunc(h.server.over, out.cut)()
	defer out.end()
	// A stream begins with its head, also while there is nothing to say.
	first, _ := answer.Peek(answer.Buffered())
	if (len(first) > 0 || response.ContentLength < 0) && out.write(first) != nil {
		return
	}
	_ = copyOut(pair, out.write)
}

// flushed writes to a client and flushes. It can be cut off from another goroutine, but not after the handler's end,
// when the ResponseWriter is not ours any more.
type flushed struct {
	w       http.ResponseWriter
	control *http.ResponseController

	mu    sync.Mutex
	ended bool
}

func (f *flushed) write(bytes []byte) error {
	if !f.limit(time.Now().Add(writeLimit)) {
		return net.ErrClosed
	}
	if _, err := f.w.Write(bytes); err != nil {
		return err
	}
	// Without Flush it is the whole of an answer, which need not be flushed.
	if err := f.control.Flush(); err != nil && !errors.Is(err, http.ErrNotSupported) {
		return err
	}
	f.limit(time.Time{}) // one that passes resets an HTTP/2 stream also while nothing is written
	return nil
}

// holdsBack says what of a middleware would keep a stream's messages from the client, or nothing.
func holdsBack(w http.ResponseWriter) string {
	flusher := flushes(w)
	if flusher == nil {
		return hidden(w, "flushed")
	}
	// What compresses and leaves Flush to net/http's own writer below it keeps what it has not yet written.
	encoding := w.Header().Get("Content-Encoding")
	_, wraps := flusher.(unwrapper)
	if encoding != "" && encoding != "identity" && flusher != w && !wraps {
		return fmt.Sprintf("a middleware's ResponseWriter under %T compresses and has no method Flush; "+
			"give it one, or leave the middleware off this route", w)
	}
	return ""
}

type unwrapper interface{ Unwrap() http.ResponseWriter }

// flushes finds what http.ResponseController would flush.
func flushes(w http.ResponseWriter) http.ResponseWriter {
	for {
		switch inner := w.(type) {
		case http.Flusher, interface{ FlushError() error }:
			return w
		case unwrapper:
			w = inner.Unwrap()
		default:
			return nil
		}
	}
}

// limit sets until when a write may take. A ResponseWriter without deadlines waits as long as it does.
func (f *flushed) limit(until time.Time) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	if !f.ended {
		_ = f.control.SetWriteDeadline(until)
	}
	return !f.ended
}

func (f *flushed) cut() {
	f.limit(time.Unix(1, 0))
	f.end()
}

func (f *flushed) end() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.ended = true
}
